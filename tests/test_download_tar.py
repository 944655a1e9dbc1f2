import gzip
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from curation.download import download_pictures
from curation.tar_archive import pictures_in_tar
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests import fault_server
from tests.conftest import REPOSITORY
from tests.download_world import finish, picture, propose, run_download
from tests.tar_world import add, archive_of
from tests.waiting import wait_until

NAMES = [f"{number:016x}" for number in range(8)]
PICTURES = {name: picture(number) for number, name in enumerate(NAMES)}


def found_in(path, max_bytes=1 << 20):
    return dict(pictures_in_tar(path, lambda image_id: True, max_bytes))


def rows_of(workspace):
    return {row["image_id"]: row for row in workspace.read(schema.DOWNLOADS).to_pylist()}


@pytest.mark.parametrize(("name", "mode"), [("test.tar.gz", "w:gz"), ("test.tar", "w")])
def test_an_archive_gives_the_rows_and_files_that_requests_give(tmp_path, name, mode):
    from_tar = propose(Workspace(tmp_path / "tar"), NAMES)
    path = archive_of(tmp_path / name, PICTURES | {"f" * 16: picture(99)}, mode)
    assert download_pictures(from_tar, tar_paths=[path]) == {"ok": 8}
    requested = propose(Workspace(tmp_path / "http"), NAMES)
    scripts = {f"/test/{name}.jpg": fault_server.body(content) for name, content in PICTURES.items()}
    with fault_server.serving(scripts) as server:
        run_download(requested, server)
    for image_id, row in rows_of(requested).items():
        assert rows_of(from_tar)[image_id] == row | {"http_status": None}
        assert (from_tar.root / row["path"]).read_bytes() == PICTURES[image_id]
    assert not list(from_tar.root.rglob("f*.jpg"))
    assert f'"url": "tar:{name}"' in from_tar.downloads_log_path.read_text()


def test_what_the_archive_lacks_is_missing_and_can_then_be_requested(tmp_path):
    workspace = propose(Workspace(tmp_path), NAMES)
    path = archive_of(tmp_path / "test.tar.gz", {name: PICTURES[name] for name in NAMES[:6]})
    assert download_pictures(workspace, tar_paths=[path], max_failures=0.5) == {"ok": 6, "missing": 2}
    assert rows_of(workspace)[NAMES[7]]["reason"] == "not in the archive"
    with fault_server.serving({}, fault_server.body(PICTURES[NAMES[0]])) as server:
        assert run_download(workspace, server) == {"ok": 8}
        assert set(server.requests) == {f"/test/{name}.jpg" for name in NAMES[6:]}


def test_a_second_run_does_not_open_the_archive(tmp_path):
    workspace = propose(Workspace(tmp_path), NAMES)
    path = archive_of(tmp_path / "test.tar.gz", PICTURES)
    download_pictures(workspace, tar_paths=[path])
    first = workspace.path_of(schema.DOWNLOADS).read_bytes()
    path.unlink()
    assert download_pictures(workspace, tar_paths=[path]) == {"ok": 8}
    assert workspace.path_of(schema.DOWNLOADS).read_bytes() == first


def test_links_devices_and_names_that_leave_the_archive_give_no_file(tmp_path):
    path = tmp_path / "evil.tar"
    (tmp_path / "secret.jpg").write_bytes(PICTURES[NAMES[0]])
    with tarfile.open(path, "w") as archive:
        add(archive, f"test/{NAMES[0]}.jpg", type=tarfile.SYMTYPE, linkname=str(tmp_path / "secret.jpg"))
        add(archive, f"test/{NAMES[1]}.jpg", type=tarfile.LNKTYPE, linkname="test/x.jpg")
        add(archive, f"test/{NAMES[2]}.jpg", type=tarfile.CHRTYPE)
        add(archive, f"../{NAMES[3]}.jpg", PICTURES[NAMES[3]])
        add(archive, f"/test/{NAMES[4]}.jpg", PICTURES[NAMES[4]])
        add(archive, f"test/../../{NAMES[5]}.jpg", PICTURES[NAMES[5]])
        add(archive, f"test/{NAMES[6]}.jpg/../x.jpg", PICTURES[NAMES[6]])
        add(archive, f"test/{NAMES[7]}.jpg", PICTURES[NAMES[7]])
    workspace = propose(Workspace(tmp_path / "ws"), NAMES)
    counts = download_pictures(workspace, tar_paths=[path], max_failures=1)
    assert counts == {"refused": 3, "missing": 4, "ok": 1}
    assert rows_of(workspace)[NAMES[0]]["reason"] == "in the archive it is not a regular file"
    assert [file.name for file in workspace.root.rglob("*.jpg")] == [f"{NAMES[7]}.jpg"]


def test_of_two_members_of_one_name_the_first_is_taken(tmp_path):
    path = tmp_path / "test.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, f"test/{NAMES[0]}.jpg", PICTURES[NAMES[0]])
        add(archive, f"test/{NAMES[0]}.jpg", PICTURES[NAMES[1]])
    workspace = propose(Workspace(tmp_path / "ws"), NAMES[:1])
    download_pictures(workspace, tar_paths=[path])
    assert (workspace.root / f"images/00/{NAMES[0]}.jpg").read_bytes() == PICTURES[NAMES[0]]


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_every_format_are_read_as_tarfile_wrote_them(tmp_path, tar_format):
    folders = "/".join(["folder" * 4] * (8 if tar_format == tarfile.USTAR_FORMAT else 20))
    path = tmp_path / "long.tar"
    with tarfile.open(path, "w", format=tar_format) as archive:
        add(archive, f"{folders}/{NAMES[0]}.jpg", PICTURES[NAMES[0]])
        add(archive, f"été/{NAMES[1]}.jpeg", PICTURES[NAMES[1]])
    assert {name: fetched.content for name, fetched in found_in(path).items()} == {
        name: PICTURES[name] for name in NAMES[:2]
    }


def test_a_member_over_the_cap_is_too_large_and_the_next_is_read(tmp_path):
    path = archive_of(tmp_path / "a.tar", {NAMES[0]: b"x" * 5000, NAMES[1]: PICTURES[NAMES[1]]}, "w")
    found = found_in(path, max_bytes=4999)
    assert (found[NAMES[0]].status, found[NAMES[0]].reason) == ("too_large", "over 4999 bytes")
    assert found[NAMES[1]].content == PICTURES[NAMES[1]]


@pytest.mark.parametrize("n_bytes_left", [100, 3000, 12_000])
def test_an_archive_that_is_cut_off_keeps_what_came_before_and_calls_nothing_missing(tmp_path, n_bytes_left):
    whole = gzip.decompress(archive_of(tmp_path / "a.tar.gz", PICTURES).read_bytes()).rstrip(b"\0")
    (tmp_path / "a.tar").write_bytes(whole[:n_bytes_left])
    workspace = propose(Workspace(tmp_path / "ws"), NAMES)
    with pytest.raises(InputError, match=r"--from-tar .*a\.tar: not a whole tar archive: it is cut off"):
        download_pictures(workspace, tar_paths=[tmp_path / "a.tar"])
    log = workspace.downloads_log_path.read_text()
    assert "missing" not in log
    assert log.count('"ok"') == len(list(workspace.root.glob("images/*/*.jpg")))
    assert download_pictures(workspace, tar_paths=[tmp_path / "a.tar.gz"]) == {"ok": 8}


def test_an_archive_that_ends_between_two_members_is_cut_off(tmp_path):
    path = tmp_path / "a.tar"
    archive_of(path, {NAMES[0]: b"x" * 512}, "w")
    path.write_bytes(path.read_bytes()[: 3 * 512])
    with pytest.raises(InputError, match="it is cut off"):
        found_in(path)


@pytest.mark.parametrize("position", [0, 300, 700, -5])
def test_a_damaged_archive_is_refused(tmp_path, position):
    path = archive_of(tmp_path / "a.tar.gz", PICTURES)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a whole tar archive"):
        found_in(path)


def pax_header(n_bytes, kind=tarfile.XHDTYPE):
    member = tarfile.TarInfo("pax")
    member.type, member.size = kind, n_bytes
    return member.tobuf(tarfile.GNU_FORMAT)


def test_an_extension_header_of_gigabytes_is_refused_unread(tmp_path):
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        path = tmp_path / "bomb.tar"
        path.write_bytes(pax_header(8 << 30, kind))
        with pytest.raises(InputError, match="an extension header is too long"):
            found_in(path)


def test_a_chain_of_extension_headers_is_refused(tmp_path):
    record = b"12 path=abc\n".ljust(512, b"\0")
    (tmp_path / "chain.tar").write_bytes((pax_header(12) + record) * 5000)
    with pytest.raises(InputError, match="an extension header is too long"):
        found_in(tmp_path / "chain.tar")


def test_a_sparse_member_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, f"test/{NAMES[0]}.jpg", b"x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
    with pytest.raises(InputError, match="it holds a sparse file"):
        found_in(tmp_path / "a.tar")


def test_what_is_no_archive_or_not_there_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(PICTURES[NAMES[0]])
    with pytest.raises(InputError, match=r"a\.tar: not a whole tar archive: a header is damaged"):
        found_in(tmp_path / "a.tar")
    with pytest.raises(InputError, match=r"--from-tar .*none\.tar: cannot be read \(No such file"):
        found_in(tmp_path / "none.tar")


@pytest.mark.parametrize("is_compressed", [False, True])
def test_zeros_that_fill_a_record_may_stand_after_the_end_mark_and_nothing_else(tmp_path, is_compressed):
    path = tmp_path / "a.tar"
    content = archive_of(path, {NAMES[0]: PICTURES[NAMES[0]]}, "w").read_bytes()
    # The archive's folder, its picture in two parts, and the first of two blocks of zeros.
    end = 3 * 512 + -(-len(PICTURES[NAMES[0]]) // 512) * 512

    def write(tail):
        path.write_bytes(gzip.compress(content + tail) if is_compressed else content + tail)

    write(bytes(1_000_000))
    assert list(found_in(path)) == [NAMES[0]]
    write(bytes(1 << 21))
    with pytest.raises(
        InputError, match=rf"a\.tar: .*: over 1048576 zeros stand after its end mark at byte {end}"
    ):
        found_in(path)
    write(b"x")
    with pytest.raises(InputError, match=rf"a\.tar: .*stands after its end mark, at byte {len(content)}"):
        found_in(path)


def test_an_archive_after_an_archive_is_refused_instead_of_left_out(tmp_path):
    path = archive_of(tmp_path / "a.tar", {NAMES[0]: PICTURES[NAMES[0]]}, "w")
    second = archive_of(tmp_path / "b.tar", {NAMES[1]: PICTURES[NAMES[1]]}, "w")
    path.write_bytes(path.read_bytes() + second.read_bytes())
    with pytest.raises(InputError, match="something stands after its end mark"):
        found_in(path)


def test_ctrl_c_ends_a_long_way_through_an_archive_and_calls_nothing_missing(tmp_path):
    path = tmp_path / "a.tar"
    with path.open("wb") as stream:
        member = tarfile.TarInfo("test/other.bin")
        member.size = 1 << 42
        stream.write(member.tobuf(tarfile.GNU_FORMAT))
        # A hole: four terabytes that take no room, and hours to read.
        stream.truncate(1 << 42)
    workspace = propose(Workspace(tmp_path / "ws"), NAMES)
    command = [
        sys.executable, "cli.py", "download", "--workspace", str(workspace.root), "--from-tar", str(path),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(workspace.downloads_log_path.exists, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert workspace.downloads_log_path.read_text() == ""
