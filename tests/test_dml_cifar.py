"""CIFAR-100 as it is distributed: pickles of Python 2, and a whole training on them."""

import pickle

from scoring.dml.compare import PUBLISHED_DATA, comparison_table
from scoring.dml.data import read_training_data
from scoring.dml.feature_folders import read_ood_sets
from scoring.dml.recipe import LOSSES
from scoring.dml.training_run import Folders, chosen_recipe, compare_losses
from tests.dml_world import rows_of, write_folder, write_python2_cifar100


def test_pickles_of_python_2_are_read_as_they_were_written(tmp_path):
    folder = write_python2_cifar100(tmp_path)
    pixels, labels = rows_of(4, 50)
    # Python's own reader, which the hand-written file must satisfy too.
    known = pickle.loads((folder / "test").read_bytes(), encoding="bytes")
    assert (known[b"data"] == pixels).all()
    found = read_training_data(folder)
    assert (found.name, found.val.targets.tolist()) == (PUBLISHED_DATA, labels)
    assert (found.val.pixels.numpy().reshape(len(labels), -1) == pixels).all()


def test_the_papers_recipe_runs_from_files_to_the_published_figures(tmp_path):
    data = read_training_data(write_python2_cifar100(tmp_path / "cifar"))
    ood = read_ood_sets({name: write_folder(tmp_path / name, 0, 2) for name in ("svhn", "isun")})
    given = {"network": "tiny", "n_epochs": 2, "batch_size": 6, "center_schedule": "scaled"}
    recipe = chosen_recipe({**given, "focal_gradient": "published", "seed": 1}, LOSSES, is_sample=False)
    folders = Folders(tmp_path / "training", tmp_path / "features", tmp_path / "scores")
    told = comparison_table(compare_losses(data, recipe, ood, folders, name="x", device="cpu"))
    assert "DML+ as published" in told
    published = [line.split()[3:] for line in told.splitlines() if line.startswith("DML+ as published")]
    assert published == [["97.21", "93.84"], ["17.58", "29.89"]]
    assert told.endswith(
        "Published for WRN-40-2 and 200 epochs: AUROC 92.72, fpr95_in 34.37, the average of\n"
        "textures, svhn, lsun_c, lsun_r, isun, places365"
    )
