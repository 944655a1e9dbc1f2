"""Pickles of plain values, and programs that would take the process with them."""

import io
import pickle
import zipfile

import pytest
import torch

from manifests.plain_pickle import check_pickle, check_torch_pickle, load_plain_pickle

VALUE = {"a": [1, 2.5, (True, None, {4: b"\xff"})], "word": "Grüße", "large": -(2**70), "empty": ((), [], {})}


def nested_key(depth):
    """A program that hashes a tuple in a tuple in a tuple, as the key of a dict."""
    return b"\x80\x02})" + b"\x85" * depth + b"K\x01s."


def test_plain_values_come_back_in_every_protocol_that_writes_bytes_as_bytes():
    for protocol in (3, 4, 5):
        assert load_plain_pickle(pickle.dumps(VALUE, protocol)) == VALUE


def test_a_long_list_written_in_parts_is_no_deep_one():
    assert load_plain_pickle(pickle.dumps(list(range(200_000)))) == list(range(200_000))


def test_nesting_is_bounded_where_it_would_end_the_process():
    (key,) = load_plain_pickle(nested_key(60))
    for _ in range(60):
        (key,) = key
    assert key == ()
    # A million end an interpreter: the function that hashes a tuple calls itself for what is in it.
    for depth in (70, 1_000_000):
        with pytest.raises(pickle.UnpicklingError, match="values into one another, more than 64 deep"):
            load_plain_pickle(nested_key(depth))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        # Each tuple holds the one before it twice: to hash the last takes 2 ** 50 steps.
        (b"\x80\x02})" + b"q\x00h\x00\x86" * 50 + b"K\x01s.", "puts more than 4,194,304 values into others"),
        # One number of a megabyte, hashed over and over.
        (
            b"\x80\x02}\x8b\0\0\x10\0" + b"\x01" * (1 << 20) + b"q\x01K\x00s" + b"h\x01K\x00s" * 100 + b".",
            "puts more than 4,194,304 values into others",
        ),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "asks for room for 4,294,967,295 values"),
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.", "asks for os.system, which is no plain value"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for os.system, which is no plain value"),
        (b"\x80\x02h\x07.", "7"),
        (b"\x80\x02\x86.", "TUPLE2 takes more than there is"),
        (b"\x80\x02t.", "pop from empty list"),
        (b"\x80\x02P1\n.", "persistent_load"),
        (b"\x80\x02]", "pickle exhausted before seeing STOP"),
        (b"", "pickle exhausted before seeing STOP"),
        (b"\xff", "opcode"),
    ],
)  # fmt: skip
def test_damaged_and_hostile_programs_are_one_clear_error(program, said):
    with pytest.raises(pickle.UnpicklingError, match=said):
        load_plain_pickle(program)


def test_only_a_given_name_is_answered_and_by_its_stand_in():
    program = b"\x80\x02cnumpy\ndtype\n."
    assert load_plain_pickle(program, {("numpy", "dtype"): "stands in"}) == "stands in"


class TestTorchFiles:
    @pytest.fixture(params=[True, False], ids=["zip", "before torch 1.6"])
    def path(self, tmp_path, request):
        layer = torch.nn.Linear(2, 3)
        optimizer = torch.optim.Adam(layer.parameters())
        layer(torch.ones(2)).sum().backward()
        optimizer.step()
        state = {"network": layer.state_dict(), "optimizer": optimizer.state_dict(), "history": [{"epoch": 1}]}
        torch.save(state, tmp_path / "state.pt", _use_new_zipfile_serialization=request.param)
        return tmp_path / "state.pt"

    def test_a_training_state_is_let_through(self, path):
        check_torch_pickle(path)

    def test_a_nested_key_is_refused_in_both_forms(self, path):
        if zipfile.is_zipfile(path):
            replaced = io.BytesIO()
            with zipfile.ZipFile(path) as before, zipfile.ZipFile(replaced, "w") as after:
                for name in before.namelist():
                    after.writestr(name, nested_key(10**6) if name.endswith("data.pkl") else before.read(name))
            path.write_bytes(replaced.getvalue())
        else:
            path.write_bytes(nested_key(10**6) * 5)
        with pytest.raises(pickle.UnpicklingError, match="more than 64 deep"):
            check_torch_pickle(path)

    def test_a_packed_program_is_refused_before_it_is_unpacked(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "state.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("state/data.pkl", bytes(10**6))
        with pytest.raises(pickle.UnpicklingError, match=r"state/data\.pkl is packed, as torch does not do"):
            check_torch_pickle(tmp_path / "state.pt")


def test_checking_alone_runs_nothing_and_lets_names_through():
    check_pickle(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.")
