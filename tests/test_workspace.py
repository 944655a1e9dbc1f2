import errno
import json
import multiprocessing
import os

import pyarrow as pa
import pytest
import typer

import cli
from manifests import schema
from manifests.durable import cut_torn_tail, read_json_lines, replacing, write_text
from manifests.errors import InputError, StageMissingError, TableError, WorkspaceLockedError
from manifests.image_ids import is_image_id, read_image_ids, shard_of
from manifests.label_space import ClassName, read_label_space, write_label_space
from manifests.parquet import write_parquet
from manifests.schema import TableSpec
from manifests.workspace import Workspace, checked_name
from tests.picture_workspace import add_pictures, pictures
from tests.waiting import HANGS_S


def hold(root, ready, release):
    with Workspace(root).stage("download", {}):
        ready.set()
        release.wait(HANGS_S)


def test_a_second_process_is_told_who_holds_the_workspace(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, release))
    process.start()
    try:
        assert ready.wait(HANGS_S)
        with (
            pytest.raises(WorkspaceLockedError, match=rf"process {process.pid} on .* \(download, since"),
            Workspace(tmp_path).stage("screen", {}),
        ):
            pass
    finally:
        release.set()
        process.join()
    with Workspace(tmp_path).stage("screen", {}):
        pass


def test_a_killed_holder_frees_the_workspace(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, release))
    process.start()
    assert ready.wait(HANGS_S)
    process.kill()
    process.join()
    with Workspace(tmp_path).stage("screen", {}):
        pass


def test_failed_replacement_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "table.txt"
    write_text(path, "old")

    def fail_in_the_middle():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise InputError("in the middle")

    with pytest.raises(InputError, match="in the middle"):
        fail_in_the_middle()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.txt"]


def test_the_record_of_a_failed_run_does_not_replace_that_of_the_table(tmp_path):
    workspace = Workspace(tmp_path)
    with workspace.stage("download", {"workers": 1}):
        pass

    def fail():
        with workspace.stage("download", {"workers": 2}):
            raise InputError("it failed")

    with pytest.raises(InputError, match="it failed"):
        fail()
    records = {path.name: json.loads(path.read_text()) for path in (tmp_path / "provenance").iterdir()}
    assert records["download.json"]["arguments"] == {"workers": 1}
    assert records["download.failed.json"]["arguments"] == {"workers": 2}


def test_a_record_cannot_leave_its_folder(tmp_path):
    with (
        pytest.raises(InputError, match="record: expected letters"),
        Workspace(tmp_path).stage("download", {}, record_as="../../evil"),
    ):
        pass


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path):
    workspace = Workspace(tmp_path)
    left_over = [
        tmp_path / ".a.parquet.123.tmp",
        tmp_path / "images" / "ab" / ".abc.jpg.99.tmp",
        # The safetensors library's own, which a killed training leaves.
        tmp_path / "training" / "tiny.mcf" / ".tmpBuqvCF",
        tmp_path / "localizer" / ".localizer.safetensors.7.tmp",
    ]
    kept = [tmp_path / "notes.tmp", tmp_path / "images" / "ab" / "abc.jpg", tmp_path / "mine" / ".b.1.tmp"]
    for path in (*left_over, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with workspace.stage("download", {}):
        assert not any(path.exists() for path in left_over)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_names_the_file_that_was_to_be_written(tmp_path, number):
    def write():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(number, "a library's words")

    with pytest.raises(OSError, match=os.strerror(number)) as failure:
        write()
    assert failure.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_cut_and_the_rest_is_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": 3')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    assert cut_torn_tail(path) == len(b'{"a": 3')
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(TableError, match=r"log\.jsonl, line 2: not JSON"):
        read_json_lines(path)


def verdict(image_id, **columns):
    row = {"verdict": "out", "source": "consensus", "n_out": 2, "n_in": 0, "n_difficult": 0, "class_index": None}
    return {"image_id": image_id, **row, **columns}


def test_a_table_comes_back_sorted_and_equal_bytes_on_a_second_write(tmp_path):
    workspace = Workspace(tmp_path)
    path = workspace.write(schema.VERDICTS, [verdict("b"), verdict("a")])
    first = path.read_bytes()
    assert workspace.read(schema.VERDICTS).column("image_id").to_pylist() == ["a", "b"]
    workspace.write(schema.VERDICTS, [verdict("a"), verdict("b")])
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([verdict("a"), verdict("a")], "an image_id stands in more than one row"),
        ([verdict("a", verdict="maybe")], "column verdict holds the unknown word 'maybe'"),
        ([verdict("a", n_out=None)], "column n_out holds 1 empty cells"),
    ],
)
def test_a_table_that_breaks_its_schema_is_refused(tmp_path, rows, message):
    nullable = pa.schema([field.with_nullable(True) for field in schema.VERDICTS.schema])
    table = pa.Table.from_pylist(rows, schema=nullable)
    with pytest.raises(TableError, match=message):
        Workspace(tmp_path).write(schema.VERDICTS, table)
    assert not (tmp_path / "verdicts.parquet").exists()


@pytest.mark.parametrize("name", [name for name, spec in vars(schema).items() if isinstance(spec, TableSpec)])
def test_a_table_of_another_version_names_the_command_that_makes_it_anew(tmp_path, name):
    spec = getattr(schema, name)
    workspace = Workspace(tmp_path / "my ws")
    older = spec.schema.remove(len(spec.schema) - 1).append(pa.field("shoe_size", pa.int8()))
    write_parquet(workspace.path_of(spec), older.empty_table())
    said = (
        f"{tmp_path}/my ws/{spec.file_name}: another version of the toolkit wrote it (lacks the column "
        f"{spec.schema.names[-1]}; has the unknown column shoe_size): move it away and run the stage "
        f"'{spec.written_by}' again, with the options that it had: python cli.py {spec.written_by} --workspace "
        f"'{tmp_path}/my ws'"
    )
    with pytest.raises(TableError) as refused:
        workspace.read(spec)
    assert str(refused.value) == said
    assert spec.written_by in typer.main.get_command(cli.app).commands


@pytest.mark.parametrize(
    ("columns", "difference"),
    [
        ({"b": pa.int8(), "a": pa.string()}, "expected the columns a, b, in this order; found b, a"),
        ({"a": pa.string(), "b": pa.int16()}, "column b should be int8, is int16"),
        ({"a": pa.int8()}, "lacks the column b; column a should be string, is int8"),
        ({"a": pa.string(), "b": pa.int8()}, ""),
    ],
)
def test_how_a_file_differs_is_said_column_by_column(columns, difference):
    expected = pa.schema({"a": pa.string(), "b": pa.int8()})
    assert schema.difference_of_form(pa.schema(columns), expected) == difference


def test_status_of_a_workspace_with_an_older_table_says_what_to_type(tmp_path, capsys):
    workspace = add_pictures(Workspace(tmp_path), pictures(1))
    workspace.write(schema.SCREEN, [{"image_id": "0000", "status": "review", "is_control": False}])
    older = schema.LOCALIZED.schema.remove(schema.LOCALIZED.schema.get_field_index("class_name"))
    write_parquet(workspace.path_of(schema.LOCALIZED), older.empty_table())
    assert cli.run(["status", "--workspace", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "(lacks the column class_name): move it away and run the stage 'localize' again" in error
    assert error.endswith(f": python cli.py localize --workspace {tmp_path}\n")
    workspace.path_of(schema.LOCALIZED).unlink()
    assert cli.run(["status", "--workspace", str(tmp_path)]) == 0


def test_a_missing_table_names_the_stage_to_run(tmp_path):
    with pytest.raises(StageMissingError, match="run the stage 'consensus'"):
        Workspace(tmp_path).read(schema.VERDICTS)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "verdicts.parquet").write_bytes(b"nonsense")
    with pytest.raises(TableError, match=r"verdicts\.parquet: cannot be read as Parquet"):
        Workspace(tmp_path).read(schema.VERDICTS)


@pytest.mark.parametrize("text", ["", "a/b", "..", "a b", "a" * 65, "é", "a\n"])
def test_what_is_no_image_id(text):
    assert not is_image_id(text)


@pytest.mark.parametrize("text", ["../../etc", "", ".hidden", "a/b", "a b"])
def test_a_name_that_leaves_the_workspace_is_refused(text):
    with pytest.raises(InputError, match="expected letters, digits"):
        checked_name(text, "--name")


def test_the_published_forms_of_a_list_are_read(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("00a1.jpg\nopenimage_o/images/00a2.jpg -1\ntest/00a3\n\n00a4\n")
    assert read_image_ids(path) == ["00a1", "00a2", "00a3", "00a4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.jpg\nb c\n", r"line 2: expected an image id such as \w+, found 'b c'"),
        ("a.jpg\n../b.jpg\n", "line 2: expected an image id"),
        ("a.jpg\nb\na\n", "line 3: image id a stands already in line 1"),
        ("\n\n", "holds no image id"),
    ],
)
def test_a_bad_list_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_image_ids(path)


def test_a_label_space_comes_back_as_written(tmp_path):
    classes = [ClassName(0, 'cock, "rooster"', "n01514668"), ClassName(1, "hen")]
    write_label_space(tmp_path / "classes.csv", classes)
    assert read_label_space(tmp_path / "classes.csv") == classes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index,name\n", r"line 1: expected the columns class_index,name\[,wnid\], found"),
        ("class_index,name\n0,cock\n2,hen\n", "line 3: expected class_index 1 and a name, found '2'"),
        ("class_index,name\n0,cock\n0,hen\n", "line 3: expected class_index 1"),
        ("class_index,name\n0,cock\n1,\n", "line 3: expected class_index 1 and a name, found '1' and ''"),
        ("class_index,name\n0,cock\n", "expected at least two classes, found 1"),
    ],
)
def test_a_damaged_label_space_is_refused_by_line(tmp_path, content, message):
    (tmp_path / "classes.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_label_space(tmp_path / "classes.csv")


def test_the_shard_of_an_image_is_what_is_left_of_the_beginning_of_its_digest():
    # SHA-256 of "abc" begins with ba7816bf 8f01cfea (FIPS 180-2, appendix B.1).
    assert shard_of("abc", 256) == 0xEA
    assert shard_of("abc", 64) == 0xEA % 64
    assert shard_of("abc", 1_000) == 0xBA7816BF8F01CFEA % 1_000
