"""Pickles of plain values, and programs that would take the process with them."""

import io
import pickle
import zipfile

import pytest
import torch

from manifests.plain_pickle import check_pickle, load_plain_pickle
from manifests.torch_files import check_torch_pickle

VALUE = {"a": [1, 2.5, (True, None, {4: b"\xff"})], "word": "Grüße", "large": -(2**70), "empty": ((), [], {})}


COLLIDING = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(1, 9000))
"""Numbers of one hash, each before a None: as keys, each is compared with all before it."""

LONG_WORD = b"X\0\0\x10\0" + b"a" * (1 << 20)


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
        (b"\x80\x02})" + b"q\x00h\x00\x86" * 50 + b"K\x01s.", "takes more than 4,194,304 steps and values"),
        # One number of a megabyte, hashed over and over.
        (
            b"\x80\x02}\x8b\0\0\x10\0" + b"\x01" * (1 << 20) + b"q\x01K\x00s" + b"h\x01K\x00s" * 100 + b".",
            "takes more than 4,194,304 steps and values",
        ),
        # Lists that are filled when they are in others: the last would be met 2 ** 30 times.
        (
            b"\x80\x02" + b"".join(b"]q%c0" % n for n in range(31))
            + b"".join(b"h%c(h%ch%ce0" % (n, n + 1, n + 1) for n in range(30)) + b"h\x00.",
            "into one that is itself in another",
        ),
        (b"\x80\x02]q\x00h\x00a.", "into one that is itself in another"),
        (b"\x80\x02K\x01K\x02a.", "puts a value into a word or number"),
        (b"\x80\x02}(" + COLLIDING + b"u.", "has more than 8,192 keys beside words and small numbers"),
        (b"\x80\x02cbuiltins\nset\n((" + COLLIDING + b"ttR.", "has more than 8,192 keys beside words"),
        # Two equal words of a megabyte, compared letter by letter again and again.
        (
            b"\x80\x02}" + LONG_WORD + b"q\x00K\x00s" + LONG_WORD + b"q\x010" + b"h\x01K\x00s" * 17_000 + b".",
            "takes more than 4,194,304 steps and values",
        ),
        # A byte makes a set of 216.
        (b"\x80\x04" + b"\x8f" * 600_000 + b".", "takes more than 4,194,304 steps and values"),
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


def test_keys_of_any_kind_are_read_where_they_are_few():
    value = {None: 0, 2.5: 1, (1, "a"): 2, -(2**70): 3, frozenset({b"x"}): 4} | {
        k << 40: k for k in range(1, 2000)
    }
    assert load_plain_pickle(pickle.dumps(value, 4)) == value
    value = {number: str(number) for number in range(100_000)}
    assert load_plain_pickle(pickle.dumps(value)) == value


def test_a_value_that_stands_in_many_places_is_read():
    shared = [{"a": {1, 2}}, ("b",)]
    read = load_plain_pickle(pickle.dumps({"first": shared, "again": [shared, shared]}))
    assert read == {"first": shared, "again": [shared, shared]}
    assert read["again"][0] is read["first"]


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

    @staticmethod
    def with_programs(path, programs):
        """Write a new archive of torch's with others for its programs."""
        torch.save({"a": 1}, path)
        replaced = io.BytesIO()
        with zipfile.ZipFile(path) as before, zipfile.ZipFile(replaced, "w") as after:
            for name in before.namelist():
                if not name.endswith("data.pkl"):
                    after.writestr(name, before.read(name))
            for name, program in programs.items():
                after.writestr(name, program)
        path.write_bytes(replaced.getvalue())
        return path

    def test_a_program_is_found_whatever_the_case_of_its_name_as_torch_finds_it(self, tmp_path):
        plain = self.with_programs(tmp_path / "plain.pt", {"plain/DATA.PKL": pickle.dumps({"a": 2}, 2)})
        assert torch.load(plain, weights_only=True) == {"a": 2}
        check_torch_pickle(plain)
        with pytest.raises(pickle.UnpicklingError, match="more than 64 deep"):
            check_torch_pickle(self.with_programs(tmp_path / "x.pt", {"x/DATA.PKL": nested_key(10**6)}))

    def test_programs_before_a_whole_archive_are_refused(self, tmp_path):
        # Torch looks at the first bytes, and would run the programs; zipfile at the last.
        path = self.with_programs(tmp_path / "x.pt", {"x/data.pkl": pickle.dumps({}, 2)})
        path.write_bytes(nested_key(10**6) * 5 + path.read_bytes())
        assert zipfile.is_zipfile(path)
        with pytest.raises(pickle.UnpicklingError, match="begins as programs and ends as a zip archive"):
            check_torch_pickle(path)

    def test_an_archive_that_two_readers_may_read_differently_is_refused(self, tmp_path):
        path = self.with_programs(tmp_path / "x.pt", {"x/data.pkl": pickle.dumps({}, 2)})
        content = path.read_bytes()
        place = int.from_bytes(content[-6:-2], "little")
        # Two directories: zipfile takes the one before the record, other readers the one that the record names.
        path.write_bytes(content[:-22] + content[place:])
        with pytest.raises(pickle.UnpicklingError, match="does not end with its directory"):
            check_torch_pickle(path)
        path.write_bytes(content[:-2] + b"\x01\x00x")
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        with pytest.raises(pickle.UnpicklingError, match="does not end with its last record"):
            check_torch_pickle(path)
        torch.save({"a": 1}, path)
        content = path.read_bytes()
        place = len(content) - 22 - 12
        path.write_bytes(content[:place] + bytes(8) + content[place + 8 :])
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        with pytest.raises(pickle.UnpicklingError, match="not where it is said to be"):
            check_torch_pickle(path)

    def test_states_of_old_torch_and_of_python_2_are_let_through(self, tmp_path):
        state = {"state": {140_000_000_000_000 + 72 * n: {"step": n} for n in range(3000)}}
        torch.save(state, tmp_path / "old.pt")
        check_torch_pickle(tmp_path / "old.pt")
        # Python 2 gave all pairs to the class that it called.
        pairs = b"".join(b"](X\x02\0\0\0%02dK\x01e" % n for n in range(99))
        program = b"\x80\x02ccollections\nOrderedDict\n](" + pairs + b"e\x85R."
        path = self.with_programs(tmp_path / "x.pt", {"x/data.pkl": program})
        check_torch_pickle(path)
        assert torch.load(path, weights_only=True) == {f"{n:02}": 1 for n in range(99)}

    def test_a_packed_program_is_refused_before_it_is_unpacked(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "state.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("state/data.pkl", bytes(10**6))
        with pytest.raises(pickle.UnpicklingError, match=r"state/data\.pkl is packed, as torch does not do"):
            check_torch_pickle(tmp_path / "state.pt")


def test_checking_alone_runs_nothing_and_lets_names_through():
    check_pickle(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.")
