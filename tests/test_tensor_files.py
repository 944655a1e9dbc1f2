"""What both trainings share: files of tensors, and computing that a rerun repeats."""

import struct

import pytest
import safetensors
import torch

from manifests.devices import computes_in_bfloat16, repeatable
from manifests.errors import ModelError
from manifests.tensor_files import check_is_file, read_record, read_tensors, tensors_below, write_tensors

TENSORS = {"b.weight": torch.arange(6.0).view(2, 3).T, "a.step": torch.tensor(3)}


def test_tensors_and_record_come_back_whatever_their_order_and_layout(tmp_path):
    write_tensors(tmp_path / "one", TENSORS, "what", {"name": "é", "epochs": 2})
    write_tensors(tmp_path / "other", dict(reversed(TENSORS.items())), "what", {"epochs": 2, "name": "é"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    tensors, said = read_tensors(tmp_path / "one", "what")
    assert tensors["b.weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert said == '{"epochs": 2, "name": "\\u00e9"}'
    assert read_tensors(tmp_path / "one", "another")[1] is None


def test_a_file_of_tensors_can_be_read_by_others_and_has_no_other_beside_it(tmp_path):
    write_tensors(tmp_path / "one", TENSORS, "what", {})
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "one").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("content", [b"", struct.pack("<Q", 9) + b"{}"])
def test_a_damaged_file_is_the_librarys_error(tmp_path, content):
    (tmp_path / "one").write_bytes(content)
    with pytest.raises(safetensors.SafetensorError):
        read_tensors(tmp_path / "one", "what")
    with pytest.raises(safetensors.SafetensorError):
        read_record(tmp_path / "one", "what")


def test_the_record_alone_is_read_and_a_file_that_lost_its_end_is_refused_by_it(tmp_path):
    path = tmp_path / "one"
    write_tensors(path, TENSORS, "what", {"epochs": 2})
    assert read_record(path, "what") == '{"epochs": 2}'
    assert read_record(path, "another") is None
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(safetensors.SafetensorError):
        read_record(path, "what")


def test_a_folder_in_place_of_a_checkpoint_is_told_with_the_file_in_it(tmp_path):
    (tmp_path / "net.bin").touch()
    check_is_file(tmp_path / "net.bin")
    cases = [
        (tmp_path, None, f"--checkpoint {tmp_path}: expected a file, found a folder"),
        (tmp_path, "else.bin", f"--checkpoint {tmp_path}: expected a file, found a folder"),
        (tmp_path, "net.bin",
         f"--checkpoint {tmp_path}: expected a file, found a folder; give {tmp_path / 'net.bin'}"),
        (tmp_path / "none", "net.bin", f"--checkpoint {tmp_path / 'none'}: no such file"),
    ]  # fmt: skip
    for given, file_name, said in cases:
        with pytest.raises(ModelError) as refused:
            check_is_file(given, "--checkpoint", file_name=file_name)
        assert str(refused.value) == said


def test_tensors_below_a_prefix_lose_it_and_others_stay_away():
    assert tensors_below("a.", {"a.step": TENSORS["a.step"], "aa.step": TENSORS["b.weight"]}) == {
        "step": TENSORS["a.step"]
    }


def test_what_is_drawn_repeatably_changes_nobody_elses_draws():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    with repeatable(torch.device("cpu")):
        torch.manual_seed(1)
        torch.rand(100)
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.allow_tf32
    assert torch.equal(torch.rand(3), expected)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == flags


def test_a_processor_computes_in_float32():
    assert not computes_in_bfloat16(torch.device("cpu"))
