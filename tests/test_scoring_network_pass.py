import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from manifests.errors import FeatureError
from scoring.extract import ExtractResult, extract_summary
from scoring.heads import Head
from scoring.network_pass import NetworkPass, Speed
from scoring.partial_sets import Part
from scoring.pictures import Picture
from tests.extract_world import jpeg

DECODING_S = COMPUTING_S = 0.01


@dataclass(frozen=True)
class SlowModel:
    """Takes ten milliseconds to decode a picture and ten for its features, which are what its corner shows."""

    head: Head
    name: str = "slow"
    weights_digest: str = "none"
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def preprocessing_record(self):
        return {}

    def pixels(self, image):
        time.sleep(DECODING_S)
        return torch.full((3, 2, 2), float(image.getpixel((0, 0))[0]))

    def features(self, pixels):
        time.sleep(COMPUTING_S * len(pixels))
        return pixels[:, 0, 0]


@pytest.fixture
def model():
    return SlowModel(Head(torch.eye(2), torch.zeros(2)))


@pytest.fixture
def parts(tmp_path):
    """Three parts of 16, 1 and 23 pictures."""
    pictures = []
    for number in range(40):
        path = tmp_path / f"{number:02}.jpg"
        path.write_bytes(jpeg(number, (16, 16)))
        pictures.append(Picture(path.stem, path))
    return [Part(tuple(pictures[start:stop])) for start, stop in ((0, 16), (16, 17), (17, 40))]


def run(parts, model):
    stored, told = {}, []
    network_pass = NetworkPass(model, None, batch_size=4, n_workers=2)
    speed = network_pass.run(parts, lambda part, rows: stored.update({part.name: rows}), lambda: told.append(1))
    assert len(told) == speed.n_images == sum(len(part.pictures) for part in parts)
    return stored, speed


def test_the_network_does_not_wait_for_decoding_not_even_where_a_part_ends(model, parts, monkeypatch):
    monkeypatch.setattr("scoring.network_pass._LEAST_RUN_TO_COMPARE_S", 0)
    stored, speed = run(parts, model)
    assert [len(stored[part.name].features) for part in parts] == [16, 1, 23]
    # Sleeping threads take no core: the bare model does a picture in 10 ms, one after the other would be 20 ms.
    assert 60 < speed.model_images_per_s <= 1 / COMPUTING_S
    assert speed.images_per_s > 0.65 * speed.model_images_per_s


def test_a_short_run_is_not_compared_with_the_bare_model(model, parts):
    assert run(parts, model)[1].model_images_per_s is None


def test_no_part_to_make_is_no_picture_and_no_rate(model):
    assert run([], model)[1] == Speed(0, 0.0, None)


def test_a_feature_that_is_no_number_names_the_picture(parts):
    @dataclass(frozen=True)
    class Broken(SlowModel):
        def features(self, pixels):
            return torch.where(torch.arange(len(pixels))[:, None] == 2, torch.nan, pixels[:, 0, 0])

    with pytest.raises(FeatureError, match="model 'slow': image 02 gets a NaN or infinite feature"):
        run(parts, Broken(Head(torch.eye(2), torch.zeros(2))))


def test_the_summary_says_what_was_done_before_and_how_fast_the_rest_went():
    result = ExtractResult(
        Path("f/val.parquet"), Path("u"), Path("r"), n_images=1200, n_unreadable=3, n_labelled=8, n_correct=6,
        n_done_before=1000, speed=Speed(203, 31.4, 35.2),
    )  # fmt: skip
    assert extract_summary(result) == (
        "extract-features: 1,200 of val, 3 unreadable, top-1 0.750 of 8 labelled, 1,000 done before, "
        "31 images/s (the model alone: 35); f/val.parquet"
    )
    nothing_new = replace(result, n_labelled=0, n_done_before=1203, speed=Speed(0, 0.0, None))
    assert extract_summary(nothing_new) == (
        "extract-features: 1,200 of val, 3 unreadable, all done before; f/val.parquet"
    )
    slow = replace(result, n_done_before=0, n_labelled=0, speed=Speed(1203, 1.26, None))
    assert extract_summary(slow) == "extract-features: 1,200 of val, 3 unreadable, 1.3 images/s; f/val.parquet"
