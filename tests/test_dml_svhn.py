"""SVHN's MATLAB files as an OOD set, written by SciPy: whole, damaged, and of another size than the network's."""

import struct

import numpy as np
import pytest
import torch
from scipy.io import savemat

from manifests.errors import InputError
from scoring.dml.data import read_training_data
from scoring.dml.feature_folders import check_sides, read_ood_sets
from tests.dml_world import write_folder, write_pickled_cifar100

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)


def write_svhn(path, compressed: bool = True, **variables):
    """A file as SVHN's authors wrote theirs: rows, columns, channels, pictures; and the digits beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    variables = variables or {"X": PIXELS.transpose(2, 3, 1, 0)}
    savemat(path, {"y": np.arange(5, dtype=np.uint8)[:, None], **variables}, do_compression=compressed)
    return path.parent


@pytest.mark.parametrize("compressed", [True, False])
def test_pictures_are_read_as_they_were_written(tmp_path, compressed):
    folder = write_svhn(tmp_path / "svhn" / "test_32x32.mat", compressed)
    found = read_ood_sets({"svhn": folder})["svhn"]
    assert (found.pixels.numpy() == PIXELS).all()
    assert found.image_ids[3] == "svhn_test_32x32_00003"
    assert found.targets.tolist() == [-1] * 5


def test_selection_of_the_benchmarks_goes_before_the_whole_file(tmp_path):
    write_svhn(tmp_path / "test_32x32.mat")
    write_svhn(tmp_path / "selected_test_32x32.mat", X=PIXELS[:2].transpose(2, 3, 1, 0))
    assert len(read_ood_sets({"svhn": tmp_path})["svhn"].image_ids) == 2


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"Z": np.zeros(3)}, "expected a variable X of pixels"),
        ({"X": PIXELS.transpose(2, 3, 1, 0).astype(float)}, r"found shape \(32, 32, 3, 5\)"),
        ({"X": PIXELS}, r"expected uint8 of shape \(32, 32, 3, n\), found shape \(5, 3, 32, 32\)"),
        ({"X": np.zeros((32, 32, 3), np.uint8)}, r"found shape \(32, 32, 3\)"),
        ({"X": np.zeros((32, 32, 3, 0), np.uint8)}, "X: "),
        ({"X": "text"}, "X: expected uint8"),
    ],
)
def test_other_variable_is_refused(tmp_path, variables, message):
    write_svhn(tmp_path / "test_32x32.mat", **variables)
    with pytest.raises(InputError, match=message):
        read_ood_sets({"svhn": tmp_path})


@pytest.mark.parametrize("elements", ["flags", "values"])
def test_an_x_without_its_kind_or_its_values_is_refused(tmp_path, elements):
    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    flags = element(6, b"" if elements == "flags" else b"\x09" + bytes(7))
    values = b"" if elements == "values" else element(2, bytes(3072))
    matrix = flags + element(5, struct.pack("<4i", 32, 32, 3, 1)) + element(1, b"X") + values
    (tmp_path / "test_32x32.mat").write_bytes(bytes(124) + b"\x00\x01IM" + element(14, matrix))
    with pytest.raises(
        InputError, match=r"test_32x32\.mat: damaged or torn \(X: its kind or its values are missing"
    ):
        read_ood_sets({"svhn": tmp_path})


@pytest.mark.parametrize("compressed", [True, False])
def test_file_torn_or_changed_anywhere_is_one_clear_error_or_read(tmp_path, compressed):
    path = tmp_path / "test_32x32.mat"
    write_svhn(path, compressed)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for length in (0, 60, 127, 128, 131, 140, 200, 1000, len(whole) - 9):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"test_32x32\.mat: "):
            read_ood_sets({"svhn": tmp_path})
    for place in rng.integers(120, 320, 200):
        path.write_bytes(whole[:place] + bytes([rng.integers(0, 256)]) + whole[place + 1 :])
        try:
            found = read_ood_sets({"svhn": tmp_path})["svhn"]
        except InputError:
            continue
        assert found.pixels.shape == (5, 3, 32, 32)


def test_ood_pixels_of_another_side_than_the_networks_are_refused_before_training(tmp_path):
    data = read_training_data(write_folder(tmp_path / "data", 2, 2), side_px=48)
    ood = read_ood_sets({"svhn": write_svhn(tmp_path / "svhn" / "test_32x32.mat"), "files": tmp_path / "data"})
    with pytest.raises(InputError, match="--ood svhn: its pictures have 32 px, those of data 48"):
        check_sides(data, ood)
    cifar = read_training_data(write_pickled_cifar100(tmp_path / "cifar"))
    assert check_sides(cifar, ood) is None
    assert torch.equal(ood["svhn"].pixels, torch.from_numpy(PIXELS))
