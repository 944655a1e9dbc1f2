"""The authors' LMDB files: the same examples as the layout that they were made of, or one clear error."""

import base64
import json
import os
import pickle
import shutil
import sys
import zlib

import pytest

from curation.localize.batches import BatchMaker
from curation.localize.checkpoints import LOCALIZER_FILE
from curation.localize.lmdb_values import read_value
from curation.localize.recipe import Recipe
from curation.localize.referring_set import examples_digest, read_examples
from curation.localize.train import STATE_FILE, TrainingExamples, train_localizer
from manifests.errors import InputError, ToolMissingError
from tests.lmdb_world import pickled, pyarrow_serialized, values_of, write_lmdb
from tests.localize_world import TINY_SIZES, tiny_encoder, write_layout

WRITTEN_BY_PYARROW_11 = (
    "eNqlVDFv00AUfmc7tVWZykNUWaJDkCqUASGKQGLMyABSxg5IwaUmMo0DwgbB3qFIHTr2J3Ts0KFDB8YMGRk6MHRkYMjIQsy7u3eJ8+LGAxf5"
    "3r1733v33bv3ArA4ChxdGyBQ2jr4sAYN8HCFQzioA2oezg7NuE2y9bcoUNsI5Zr2LPyucWqTPkiyXIa60NgZBijOvt73m7gOS/EDwu3sAOwi"
    "5ljj7vCzRghukp7kcSrjHiH2irhto/6A7A38csS/kD74/Ub9Cdk+R4NM+r6aznk2SjzlWTZhw2kN50cAPmI60+r8dGGeH8P5x7Q6P4d6vyFj"
    "m3sa21N5H7SfaYyowiAVOEX7uCbOFdonGmNJzBbDPFZ14OPnqjqQ2x2ctgvl41TFlbltov15sZrfM7QPinmu2qVc7RJG6gfxV/VGnqpSj3gs"
    "5+yyWH3XM7T/rOE0RnuAFg9PclUXBNQj2ies8HHUb95Xnq1jy+HDJnWWr6KB7agYbWE6cR11X3WZ7L2x0PUkSr16t7Q2+/QWs3MD1t8Bw4XM"
    "bnSXZIvkFskOw3cY7jXJ+ySPWLwTFu+cxTuf5UeP7+w+I4YfMd43zH7D7vuLpOnlCcNPGP4PSYsl2tg9sehvdMM/JH2DvQFzWxrc7tbo8J94"
    "i+l2DR9R418XX9zCWehR+T8r32yNcXRVp+icyhq4R7WXpP00yg7eRHkW93vJPuq9YZTGw09pL4uHeaYmeZ5l2ZazwEncwtkq1WFx/a1bztPL"
    "Ch/JN3r47kO/ZBNiOQduqT72kn5r7/2Xt9FHKfT/xqq8/gOluKzm"
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return write_layout(tmp_path_factory.mktemp("data"), {"train": 5, "val": 2})


@pytest.fixture
def values(layout):
    return values_of(layout, "train")


def read(root):
    return read_examples(root, "refcoco", "train")


def test_a_value_that_pyarrow_11_itself_serialized_is_read():
    assert read_value(zlib.decompress(base64.b64decode(WRITTEN_BY_PYARROW_11))) == {
        "img": b"\xff\xd8", "mask": b"\x89P", "cat": 3, "seg_id": 77, "img_name": "a.jpg", "num_sents": 2,
        "sents": ["big box", "far box"],
    }  # fmt: skip


@pytest.mark.parametrize("serialized", [pyarrow_serialized, pickled])
class TestSameExamples:
    def test_examples_are_those_of_the_layout_in_its_order_with_its_digest(
        self, layout, values, tmp_path, serialized
    ):
        # A split of more than ten: the keys 2 and 10 stand in the file in another order than in the annotations.
        many = write_layout(tmp_path / "many", {"train": 12})
        write_lmdb(tmp_path, "train", {k: serialized(v) for k, v in values_of(many, "train").items()})
        by_file, by_lmdb = read(many), read(tmp_path)
        assert [one.segment_id for one in by_lmdb] == [str(number) for number in range(1, 13)]
        assert [(one.picture_name, one.phrases) for one in by_lmdb] == [
            (one.picture_name, one.phrases) for one in by_file
        ]
        assert examples_digest(by_lmdb) == examples_digest(by_file)

    def test_batches_are_those_of_the_layout_whoever_reads(self, layout, values, tmp_path, serialized):
        write_lmdb(tmp_path, "train", {key: serialized(value) for key, value in values.items()})

        def batches(examples, n_workers):
            maker = BatchMaker(examples, 2, 32, (1, 2, 3), 0, n_workers)
            return [
                (one.pixels.numpy().tobytes(), one.masks.numpy().tobytes(), *one.phrases)
                for one in maker.of_epoch(1)
            ]

        assert batches(read(tmp_path), 3) == batches(read(layout), 1)


def test_the_layout_is_read_where_it_is_there_and_the_file_where_its_pictures_are_gone(layout, values, tmp_path):
    root = tmp_path / "both"
    shutil.copytree(layout, root)
    values[b"0"]["sents"] = ["other words", "than those"]
    path = write_lmdb(root, "train", {key: pickled(value) for key, value in values.items()})
    assert read(root)[0].phrases == ("the big box", "the far box")
    shutil.rmtree(root / "images")
    by_lmdb = read(root)
    assert by_lmdb[0].phrases == ("other words", "than those")
    assert str(by_lmdb[0].picture) == f"{path}, img of 0"


def test_a_training_begun_on_the_layout_goes_on_over_the_file_and_ends_in_the_same_bytes(layout, tmp_path):
    for split in ("train", "val"):
        values = values_of(layout, split)
        write_lmdb(tmp_path, split, {key: pyarrow_serialized(value) for key, value in values.items()})
    encoder = tiny_encoder(tmp_path)

    def trained(root, n_epochs, out_dir):
        data = TrainingExamples(*(read_examples(root, "refcoco", split) for split in ("train", "val")))
        recipe = Recipe(n_epochs=n_epochs, milestone=1, batch_size=2, learning_rate=3e-3)
        train_localizer(encoder, TINY_SIZES, recipe, data, out_dir=out_dir, announce=lambda line: None)
        return (out_dir / LOCALIZER_FILE).read_bytes(), (out_dir / STATE_FILE).read_bytes()

    trained(layout, 1, tmp_path / "both")
    assert trained(tmp_path, 2, tmp_path / "both") == trained(layout, 2, tmp_path / "one")


def test_a_file_is_read_again_while_it_is_in_use_and_nothing_is_written_beside_it(values, tmp_path):
    path = write_lmdb(tmp_path, "train", {key: pickled(value) for key, value in values.items()})
    for lock in path.parent.glob("*-lock"):
        lock.unlink()
    assert read(tmp_path) == read(tmp_path)
    assert [file.name for file in path.parent.iterdir()] == ["train.lmdb"]


def without(name):
    def change(values):
        del values[b"1"][name]

    return change


def with_(key, value):
    return lambda values: values.update({key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.pop(b"1"), r"train\.lmdb, 1: it is not there"),
        (lambda values: values.pop(b"__keys__"), r"train\.lmdb, __keys__: it is not there"),
        (lambda values: values.pop(b"__len__"), r"train\.lmdb, __len__: it is not there"),
        (with_(b"__len__", 4), "__len__ is 4, and there are 5 keys"),
        (with_(b"__keys__", ["0"]), "__keys__: expected a list of keys"),
        (with_(b"1", [1]), r"train\.lmdb, 1: expected a dict, found list"),
        (without("mask"), "mask: expected bytes, found NoneType"),
        (lambda values: values[b"1"].update(sents=[7, 8]), "sents: expected words, found a list with int"),
        (lambda values: values[b"1"].update(num_sents=3), "num_sents is 3, and there are 2 sents"),
        (lambda values: values[b"1"].update(seg_id=1), "a segment_id occurs twice"),
        (lambda values: values[b"1"].update(img_name="../x.png"), "entry 1: expected a plain file name"),
        (lambda values: values[b"1"].update(sents=[], num_sents=0), "segment 2 has no phrase"),
    ],
)
@pytest.mark.parametrize("serialized", [pyarrow_serialized, pickled])
def test_a_damaged_entry_is_refused_by_its_place(values, tmp_path, change, said, serialized):
    change(values)
    write_lmdb(tmp_path, "train", {key: serialized(value) for key, value in values.items()})
    with pytest.raises(InputError, match=said):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_(b"__len__", 10**5000), "__len__ is a number beyond 64 bits, and there are 5 keys"),
        (with_(b"__len__", True), "__len__ is bool, and there are 5 keys"),
        (lambda values: values[b"1"].update(num_sents=10**5000), "num_sents: expected int, found a number beyond"),
        (lambda values: values[b"1"].update(seg_id=-(10**5000)), "seg_id: expected int, found a number beyond"),
        (lambda values: values[b"1"].update(seg_id=True), "seg_id: expected int, found bool"),
        (lambda values: values[b"1"].update(sents=["a", "\ud800"]), "entry 1: a phrase holds half of a pair"),
        (lambda values: values[b"1"].update({k << 61: 0 for k in range(1, 9000)}), "more than 8,192 keys"),
    ],
)
def test_numbers_and_words_that_pyarrow_could_not_hold_are_refused(values, tmp_path, change, said):
    change(values)
    write_lmdb(tmp_path, "train", {key: pickled(value) for key, value in values.items()})
    with pytest.raises(InputError, match=said):
        read(tmp_path)


@pytest.mark.parametrize("value", [True, None, [1], 2.5])
def test_a_segment_of_the_layout_that_is_no_number_and_no_word_is_refused(tmp_path, value):
    root = write_layout(tmp_path, {"train": 2})
    path = root / "anns" / "refcoco" / "train.json"
    entries = json.loads(path.read_text())
    entries[1]["segment_id"] = value
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"train\.json, entry 1: expected a number or word as segment_id"):
        read(root)


@pytest.mark.parametrize("serialized", [pyarrow_serialized, pickled])
@pytest.mark.parametrize("kept", [0, 3, 40, 200])
def test_a_truncated_value_is_refused_by_its_place(values, tmp_path, serialized, kept):
    contents = {key: serialized(value) for key, value in values.items()}
    write_lmdb(tmp_path, "train", contents | {b"2": contents[b"2"][:kept]})
    with pytest.raises(InputError, match=r"train\.lmdb, 2: (cannot be read as a pickle|expected a pickle or)"):
        read(tmp_path)


def test_a_pickle_that_would_run_code_runs_none(values, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/ran",))

    contents = {key: pickled(value) for key, value in values.items()}
    write_lmdb(tmp_path, "train", contents | {b"2": pickle.dumps({"img": Hostile()})})
    with pytest.raises(InputError, match=r"train\.lmdb, 2: .*asks for posix\.system"):
        read(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_serialized_arrays_and_foreign_kinds_are_refused():
    content = pyarrow_serialized({"a": 1})
    with pytest.raises(InputError, match="it holds arrays"):
        read_value(b"\1" + content[1:])
    # Kind 12 is a tuple, which their tool does not write: the name of a union's child is its kind.
    place = content.index(b"\x02\0\0\x0011\0\0")
    with pytest.raises(InputError, match="a value of kind 12"):
        read_value(content[:place] + b"\x02\0\0\x0012\0\0" + content[place + 8 :])


def test_wrong_picture_bytes_are_an_error_of_their_segment(values, tmp_path):
    values[b"1"]["mask"] = b"no picture"
    write_lmdb(tmp_path, "train", {key: pickled(value) for key, value in values.items()})
    example = read(tmp_path)[1]
    with pytest.raises(InputError, match=r"segment 2: its picture or mask cannot be read \(not_an_image"):
        example.read()


def test_a_file_that_is_none_or_cut_off_is_refused_before_its_library_opens_it(values, tmp_path):
    values[b"4"]["img"] += bytes(30_000)
    path = write_lmdb(tmp_path, "train", {key: pickled(value) for key, value in values.items()})
    content = path.read_bytes()
    for damaged, said in (
        (b"text", "cannot be read as an LMDB file"),
        (content[: len(content) - 8192], "damaged: "),
    ):
        path.unlink()
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=said):
            read(tmp_path)


def test_without_the_package_it_is_said_what_to_install(values, tmp_path, monkeypatch):
    write_lmdb(tmp_path, "train", {key: pickled(value) for key, value in values.items()})
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ToolMissingError, match=r"pip install 'openimage-o-toolkit\[lmdb\]', or give the layout"):
        read(tmp_path)
