import numpy as np
import pytest
import torch
from PIL import Image

from curation.bench.views import bench_views, views_table
from manifests.errors import InputError


class ColourEncoder:
    """Sees nothing but a picture's mean colour."""

    name, source, digest, n_dimensions, input_px = "colours", "clip", "0" * 16, 3, 8
    device = torch.device("cpu")

    def pixels(self, image):
        return torch.from_numpy(np.asarray(image.resize((8, 8), Image.Resampling.BOX)).copy()).permute(2, 0, 1)

    def encode(self, pixels):
        vectors = pixels.float().mean(dim=(2, 3))
        return torch.nn.functional.normalize(vectors).numpy(), None

    def save_head(self, folder):
        pass


def data(folder, class_index):
    """Write red pictures, said to be of a class, and grey ones of none."""
    for name, colour in (("imagenet_val/red.png", (250, 0, 0)), ("pool/test/grey.jpg", (90, 90, 90))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), colour).save(folder / name)
    (folder / "imagenet_val" / "labels.csv").write_text(f"file,class_index\nred.png,{class_index}\n")
    (folder / "pool" / "truth.csv").write_text("image_id,truth\ngrey,out\nother,in\n")
    return folder


@pytest.mark.parametrize(("class_index", "share"), [(0, 1.0), (2, 0.0)])
def test_what_is_pasted_is_found_where_its_class_is_the_right_one(tmp_path, class_index, share):
    # Twelve classes: red, and others of which red is none.
    prototypes = np.eye(3, dtype=np.float32)[[0, 1, 2, *[1] * 9]]
    bench = bench_views(ColourEncoder(), prototypes, data(tmp_path, class_index), n_pictures=1, grids=(2, 3))
    assert [figures.grids for figures in bench.grids] == [(), (2,), (3,), (2, 3)]
    assert bench.grids[0].n_views == 1
    assert bench.grids[3].n_views == bench.grids[1].n_views + bench.grids[2].n_views - 1
    assert all(figures.best == (share,) * 3 for figures in bench.grids)
    assert "2 and 3" in views_table(bench)
    told = bench.as_json()["grids"][1]
    assert (told["grids"], told["n_views"]) == ((2,), bench.grids[1].n_views)
    assert [(one["area_share"], one["best"]) for one in told["pasted"]] == [
        (0.25, share),
        (0.1, share),
        (0.05, share),
    ]


def test_a_flat_picture_decoded_at_reduced_size_has_the_same_vectors(tmp_path):
    bench = bench_views(ColourEncoder(), np.eye(3, dtype=np.float32), data(tmp_path, 0), n_pictures=1, grids=(2,))
    assert min(fast.least_cosine for fast in bench.fast) == pytest.approx(1, abs=1e-3)


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--data: .*labels\.csv cannot be read"):
        bench_views(ColourEncoder(), np.eye(3, dtype=np.float32), tmp_path)
    (tmp_path / "imagenet_val").mkdir()
    (tmp_path / "imagenet_val" / "labels.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"labels\.csv: expected the columns class_index, file"):
        bench_views(ColourEncoder(), np.eye(3, dtype=np.float32), tmp_path)
