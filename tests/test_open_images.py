import base64
import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest

import cli
from curation.candidates import Choice, propose_candidates
from curation.metadata.bench_table import write_made_up_table
from curation.metadata.image_table import SUBSETS
from curation.open_images import read_metadata
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.open_images_world import V3, cells, images_csv, write_csv
from tests.waiting import wait_until


def test_every_column_of_a_v3_row_is_kept(tmp_path):
    (row,) = read_metadata(write_csv(tmp_path / "images.csv", [cells()]))
    assert row == {
        "image_id": "000026e7ee790996",
        "subset": "test",
        "url": "https://open-images-dataset.s3.amazonaws.com/test/000026e7ee790996.jpg",
        "original_url": "https://farm7.staticflickr.com/1/a_o.jpg",
        "landing_url": "https://www.flickr.com/photos/x/1",
        "license_url": "https://creativecommons.org/licenses/by/2.0/",
        "author": 'Ana "A", X',
        "author_profile_url": "https://www.flickr.com/people/x/",
        "title": "Dôme,\nat night",
        "original_size_bytes": 1234,
        "original_md5": hashlib.md5(b"original").hexdigest(),
        "rotation_deg": None,
        "is_withdrawn": False,
    }


@pytest.mark.parametrize(
    ("text", "degrees", "is_withdrawn"),
    [("", None, False), ("nan", None, True), ("NaN", None, True), ("0.0", 0, False), ("90", 90, False),
     ("270.0", 270, False), ("1.8e2", 180, False)],
)  # fmt: skip
def test_rotation_of_v4_to_v7(tmp_path, text, degrees, is_withdrawn):
    path = write_csv(tmp_path / "test-images-with-rotation.csv", [cells(Rotation=text)], [*V3, "Rotation"])
    (row,) = read_metadata(path)
    assert (row["rotation_deg"], row["is_withdrawn"]) == (degrees, is_withdrawn)


def test_the_v3_archive_is_read_without_unpacking(tmp_path):
    path = tmp_path / "images_2017_11.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for subset in ("train", "test"):
            content = images_csv([cells(f"{subset}0001", subset)]).encode()
            member = tarfile.TarInfo(f"2017_11/{subset}/images.csv")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert [row["image_id"] for row in read_metadata(path)] == ["train0001", "test0001"]
    workspace = Workspace(tmp_path / "ws")
    assert propose_candidates(workspace, path, Choice(subset="test")) == {"test": 1}


def test_a_list_of_bare_ids_gives_candidates_at_the_mirror(tmp_path):
    path = tmp_path / "openimage_o.txt"
    path.write_text("0a.jpg\n0b.jpg\n")
    given = [{word: value for word, value in row.items() if value is not None} for row in read_metadata(path)]
    assert given == [
        {
            "image_id": i,
            "subset": "test",
            "url": f"https://open-images-dataset.s3.amazonaws.com/test/{i}.jpg",
            "is_withdrawn": False,
        }
        for i in ("0a", "0b")
    ]


@pytest.mark.parametrize(
    ("second_row", "message"),
    [
        ({"image_id": "a/b"}, "line 4: ImageID: expected 1 to 64 letters, digits, '_' or '-', found 'a/b'"),
        ({"image_id": ""}, "line 4: ImageID"),
        ({"subset": "dev"}, "line 4: Subset: expected one of train, validation, test, found 'dev'"),
        ({"OriginalSize": "9" * 30}, "line 4: OriginalSize: expected bytes as a whole number"),
        ({"OriginalSize": "1e3"}, "line 4: OriginalSize: expected bytes as a whole number, found '1e3'"),
        ({"OriginalMD5": "abc"}, "line 4: OriginalMD5: expected base64 of 16 bytes, found 'abc'"),
        ({"OriginalMD5": base64.b64encode(b"short").decode()}, "line 4: OriginalMD5"),
    ],
)
def test_a_malformed_cell_is_refused_with_file_and_line(tmp_path, second_row, message):
    row = cells(**{"image_id": "b", "Title": "plain", **second_row})
    path = write_csv(tmp_path / "images.csv", [cells("a"), row])  # the title of row one spans lines 2 and 3
    with pytest.raises(InputError, match=rf"images\.csv, {message}"):
        list(read_metadata(path))


def test_a_row_with_too_few_cells_is_refused_with_its_line(tmp_path):
    path = write_csv(tmp_path / "images.csv", [cells(Title="plain")])
    path.write_text(path.read_text() + "0002,test,https://x\n")
    with pytest.raises(InputError, match=r"images\.csv, line 3: expected 11 cells, found 3"):
        list(read_metadata(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("images.csv", b"a,b\n", "line 1: expected the columns ImageID"),
        ("images.csv", b"", "line 1: expected the columns"),
        ("images.csv", images_csv([cells()]).encode("latin-1"), "not CSV in UTF-8"),
        ("images.csv", images_csv([cells(Title="x")]).encode() + b'"open', "not CSV in UTF-8"),
        ("images.tar.gz", b"nonsense", "cannot be read"),
        ("images.json", b"{}", r"expected \.csv, \.tar\.gz or a list \.txt"),
    ],
)
def test_a_file_of_no_known_form_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_metadata(tmp_path / name))


def test_an_archive_without_images_csv_is_refused(tmp_path):
    path = tmp_path / "classes.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("classes.txt"))
    with pytest.raises(InputError, match=r"holds no images\.csv"):
        list(read_metadata(path))


def test_an_id_that_stands_twice_is_refused_and_nothing_is_written(tmp_path):
    path = write_csv(tmp_path / "images.csv", [cells("a"), cells("b"), cells("a")])
    workspace = Workspace(tmp_path / "ws")
    with pytest.raises(
        InputError, match=r"images\.csv, line 6: names image a twice, first in .*images\.csv, line 2"
    ):
        propose_candidates(workspace, path)
    assert not workspace.has(schema.CANDIDATES)


def test_ids_of_a_list_that_the_metadata_lacks_are_counted(tmp_path):
    path = write_csv(tmp_path / "images.csv", [cells("a"), cells("b")])
    (tmp_path / "ids.txt").write_text("b.jpg\nc.jpg\n")
    workspace = Workspace(tmp_path / "ws")
    assert propose_candidates(workspace, path, Choice(tmp_path / "ids.txt")) == {
        "test": 1,
        "not_in_metadata": 1,
    }
    assert workspace.read(schema.CANDIDATES).column("image_id").to_pylist() == ["b"]


def test_an_id_of_another_subset_is_in_the_metadata(tmp_path):
    path = write_csv(tmp_path / "images.csv", [cells("a"), cells("b", "train")])
    (tmp_path / "ids.txt").write_text("\ufeffa\nb\n", encoding="utf-8")
    counts = propose_candidates(Workspace(tmp_path / "ws"), path, Choice(tmp_path / "ids.txt", subset="test"))
    assert counts == {"test": 1, "not_in_metadata": 0}


def test_limit_and_second_run_give_the_same_bytes(tmp_path):
    path = write_csv(tmp_path / "images.csv", [cells(name) for name in "dbca"])
    workspace = Workspace(tmp_path / "ws")
    propose_candidates(workspace, path, Choice(limit=3))
    first = workspace.path_of(schema.CANDIDATES).read_bytes()
    assert workspace.read(schema.CANDIDATES).column("image_id").to_pylist() == ["b", "c", "d"]
    propose_candidates(workspace, path, Choice(limit=3))
    assert workspace.path_of(schema.CANDIDATES).read_bytes() == first


def test_the_real_rows_of_the_pool_are_read(shared, tmp_path):
    workspace = Workspace(tmp_path)
    assert propose_candidates(workspace, shared / "data" / "pool" / "images.csv")["test"] == 766
    rows = workspace.read(schema.CANDIDATES).to_pylist()
    assert sum("flickr.com" in (row["landing_url"] or "") for row in rows) == 452


def pack(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def a_thousand_rows():
    return images_csv([cells(f"{number:016x}", Title=f"{number * 7919:x}") for number in range(1_000)]).encode()


@pytest.mark.parametrize(
    ("mode", "damage"),
    [
        ("w", lambda content: content[: len(content) // 2]),
        ("w", lambda content: content[: 2 * 512 + (len(content) // 512 // 3) * 512]),
        ("w:gz", lambda content: content[: len(content) // 2]),
        ("w:gz", lambda content: content[:-8]),
        ("w:gz", lambda content: content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]),
    ],
    ids=["cut tar", "tar cut at a block", "cut gzip", "gzip without its sum", "wrong sum"],
)
def test_a_damaged_archive_is_one_error_that_says_what_to_do(tmp_path, mode, damage, capsys):
    path = pack(tmp_path / "images.tar.gz", [("2017_11/test/images.csv", a_thousand_rows())], mode)
    path.write_bytes(damage(path.read_bytes()))
    workspace = tmp_path / "ws"
    assert cli.run(["candidates", "--metadata", str(path), "--workspace", str(workspace)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {path}: cannot be read as a whole tar archive (")
    assert error.endswith("): fetch or copy it again")
    assert not (workspace / "candidates.parquet").exists()


def test_a_flipped_byte_anywhere_in_an_archive_is_one_error_that_names_it(tmp_path, capsys):
    path = pack(tmp_path / "images.tar.gz", [("2017_11/test/images.csv", a_thousand_rows())])
    whole = path.read_bytes()
    for position in np.random.default_rng(4).integers(10, len(whole), 12):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        assert cli.run(["candidates", "--metadata", str(path), "--workspace", str(tmp_path / "ws")]) == 1
        # What a flipped byte unfolds to may be no CSV before it is found to be no archive.
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith(f"error: {path}:")
        assert "Traceback" not in error


def test_an_archive_cut_off_between_two_members_is_not_taken_for_whole(tmp_path):
    members = [(f"{subset}/images.csv", images_csv([cells(f"{subset}1", subset)]).encode()) for subset in SUBSETS]
    path = pack(tmp_path / "images.tar", members, "w")
    with tarfile.open(path) as archive:
        second_begins = archive.getmembers()[1].offset
    path.write_bytes(path.read_bytes()[:second_begins])
    with pytest.raises(InputError, match=r"cannot be read as a whole tar archive \(it is cut off\)"):
        list(read_metadata(path))


def test_an_extension_header_of_any_length_costs_no_memory(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2 << 30
    path = tmp_path / "images.tar"
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20))
    with pytest.raises(InputError, match="an extension header is too long"):
        list(read_metadata(path))


def test_a_link_called_images_csv_is_not_followed(tmp_path):
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("images.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(InputError, match=r"holds no images\.csv"):
        list(read_metadata(path))


def test_the_folder_of_a_listed_id_is_its_subset(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("train/0a.jpg\nvalidation/0b\n0c.jpg\nopenimage_o/images/0d.jpg -1\n")
    assert {row["image_id"]: (row["subset"], row["url"].rsplit("/", 2)[1]) for row in read_metadata(path)} == {
        "0a": ("train", "train"), "0b": ("validation", "validation"), "0c": ("test", "test"),
        "0d": ("test", "test"),
    }  # fmt: skip
    with pytest.raises(InputError, match=r"ids\.txt, line 1: names the subset train, --subset says validation"):
        propose_candidates(Workspace(tmp_path / "ws"), path, Choice(subset="validation"))


def test_an_unknown_subset_is_named_as_such(tmp_path):
    path = write_csv(tmp_path / "images.csv", [cells()])
    with pytest.raises(InputError, match="--subset: expected one of train, validation, test, found 'dev'"):
        propose_candidates(Workspace(tmp_path / "ws"), path, Choice(subset="dev"))


def test_metadata_without_rows_is_named_as_such(tmp_path):
    path = write_csv(tmp_path / "images.csv", [])
    with pytest.raises(InputError, match=r"images\.csv: holds no image below its header"):
        propose_candidates(Workspace(tmp_path / "ws"), path)


def test_the_table_of_candidates_is_written_after_what_was_found_in_it(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "images.csv", [cells("a"), cells("b")])
    workspace = Workspace(tmp_path / "ws")
    workspace.path_of(schema.WITHDRAWN).mkdir(parents=True)
    with pytest.raises(OSError, match="irectory"):
        propose_candidates(workspace, path)
    assert not workspace.has(schema.CANDIDATES)
    assert workspace.has(schema.ORIGINAL_DUPLICATES)


def test_killed_at_any_moment_and_run_again_it_ends_in_the_same_bytes(tmp_path):
    path = tmp_path / "image_ids_and_rotation.csv"
    write_made_up_table(path, 60_000)
    tables = (schema.CANDIDATES, schema.ORIGINAL_DUPLICATES, schema.WITHDRAWN)

    def start(workspace):
        return subprocess.Popen(
            [sys.executable, "cli.py", "candidates", "--metadata", str(path), "--workspace", str(workspace.root)],
            cwd=REPOSITORY, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def wait_for_lock(process, workspace):
        holder = workspace.root / ".lock-holder.json"
        wait_until(lambda: holder.exists() or process.poll() is not None, gap_s=0.002)

    undisturbed, killed = Workspace(tmp_path / "undisturbed"), Workspace(tmp_path / "killed")
    process = start(undisturbed)
    wait_for_lock(process, undisturbed)
    started = time.monotonic()
    assert process.wait() == 0
    working_s = time.monotonic() - started
    n_killed = 0
    for share in np.random.default_rng(25).permutation(np.linspace(0.05, 0.95, 8)):
        process = start(killed)
        wait_for_lock(process, killed)
        time.sleep(working_s * share)
        process.kill()
        n_killed += process.wait() == -signal.SIGKILL
        if killed.has(schema.CANDIDATES):
            assert all(killed.has(table) for table in tables)
    assert n_killed >= 1, "the runs ended before they could be killed"
    assert start(killed).wait() == 0
    for table in tables:
        assert killed.path_of(table).read_bytes() == undisturbed.path_of(table).read_bytes()
    assert not list(killed.root.glob(".*.tmp"))
