import functools
import http.server
import shutil
import threading

import pytest

import cli
from manifests.bench import bench_manifests, timings_table
from manifests.errors import InputError
from manifests.frozen import read_manifest
from manifests.official import OFFICIAL, WHOLE, ids_digest, official_lists, official_statement
from tests.manifest_world import image_name, world


@pytest.fixture
def space(tmp_path):
    return world(tmp_path / "ws", 12)


def run(capsys, *arguments):
    code = cli.run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_filters_and_what_they_left_out_are_printed(space, capsys):
    code, out, _ = run(
        capsys, "build-manifest", "--workspace", str(space.root), "--name", "x", "--version", "auto", "--license",
        "cc-by-2.0", "--max-aspect", "1.45", "--split", "dev=0.5", "--split", "val=0.2", "--seed", "4",
    )  # fmt: skip
    assert code == 0
    # 0, 3, 6 and 9 are CC BY; of them number 6 alone, with 46 x 30 pixels, is over 1.45.
    assert "left out: licence 4, licence_unknown 4, max_aspect 1\n" in out
    header = read_manifest(space.manifests_dir / "x-1.0.0").header
    assert header["rules"]["splits"] == {"dev": 0.5, "val": 0.2}
    assert header["rebuild"] == (
        "python cli.py build-manifest --name x --version auto --split=dev=0.5 --split=val=0.2 "
        "--licence cc-by-2.0 --max-aspect 1.45 --seed 4"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "val"], "--split: expected KEY=VALUE, found 'val'"),
        (["--split", "val=ten"], "--split: expected NAME=SHARE such as val=0.1"),
        (["--split", "val=.1", "--split", "val=.9"], "--split: expected each name once, found val=.1 val=.9"),
        (["--official", "imagenet"], "--official: expected openood or vim, found 'imagenet'"),
        (["--official", "vim", "--target", "3"], "a published set takes no filters and no --target"),
    ],
)
def test_flags_that_say_nothing_are_one_line(space, capsys, arguments, message):
    code, _, err = run(capsys, "build-manifest", "--workspace", str(space.root), *arguments)
    assert (code, message in err) == (1, True)


def test_a_list_by_its_address_is_fetched_once(space, tmp_path, capsys):
    served = tmp_path / "served"
    served.mkdir()
    (served / "list.txt").write_text(f"{image_name(1)}.jpg\n{image_name(2)}.jpg\n")
    (served / "page.txt").write_text("<html>sign in</html>\n")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        common = ["build-manifest", "--workspace", str(space.root), "--cache", str(tmp_path / "cache")]
        fetched = [*common, "--name", "x", "--from-list", f"val={base}/list.txt", "--allow-private"]
        code, out, _ = run(capsys, *fetched)
        assert (code, "images 2, split_val 2" in out) == (0, True)
        shutil.rmtree(served / "list.txt", ignore_errors=True)
        assert run(capsys, *fetched)[0] == 0
        code, _, err = run(capsys, *common, "--name", "y", "--from-list", f"{base}/page.txt", "--allow-private")
        assert (code, "expected an image id" in err) == (1, True)
        assert run(capsys, *common, "--name", "y", "--from-list", f"{base}/list.txt?x=1")[0] == 1
        server.shutdown()
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_the_published_sets_are_told_by_their_ids_in_any_order(shared, tmp_path, capsys):
    lists = shared / "data" / "lists"
    names = ("openood_test_openimage_o.txt", "openood_val_openimage_o.txt")
    lines = (lists / names[0]).read_text().splitlines()
    (tmp_path / "reversed.txt").write_text("\n".join(reversed(lines)))
    arguments = ["build-manifest", "--workspace", str(tmp_path / "ws"), "--official", "openood"]
    code, out, _ = run(
        capsys, *arguments, "--from-list", str(lists / names[1]), "--from-list", str(tmp_path / "reversed.txt")
    )
    assert code == 0
    assert "images 17,632, split_test 15,869, split_val 1,763" in out
    assert f"together the 17,632 ids of ViM's list, sha256 {WHOLE.sha256}" in out
    code, _, err = run(capsys, *arguments, "--from-list", str(lists / names[1]))
    assert (code, "the list of the split test is missing" in err) == (1, True)
    (tmp_path / "short.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(
        InputError, match=r"short\.txt: 15,868 ids with the digest .* are no list that openood published"
    ):
        official_lists("openood", [tmp_path / "short.txt"])
    with pytest.raises(InputError, match="test: expected the 17,632 published ids"):
        official_statement("vim", {"test": [line.split("/")[-1] for line in lines]})


def test_the_digest_of_ids_does_not_depend_on_their_order():
    # printf 'a\nb\n' | sha256sum
    assert ids_digest(["b", "a"]) == "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2"
    assert sum(published.n_images for published in OFFICIAL["openood"].values()) == WHOLE.n_images


def test_a_published_set_with_a_retired_image_is_not_official(shared, tmp_path, capsys):
    path = shared / "data" / "lists" / "vim_openimage_o.txt"
    arguments = ["build-manifest", "--workspace", str(tmp_path), "--name", "vim", "--from-list", str(path)]
    assert cli.run([*arguments, "--official", "vim"]) == 0
    assert cli.run(["retire", "000d5efd9500e718", "--reason", "gone", "--workspace", str(tmp_path)]) == 0
    code, _, err = run(capsys, *arguments, "--official", "vim", "--version", "auto")
    assert (code, "1 of its images are retired here (000d5efd9500e718)" in err) == (1, True)
    code, out, _ = run(capsys, *arguments, "--version", "auto")
    assert (code, out.splitlines()[0]) == (
        0, "manifest vim-2.0.0: images 17,631, split_test 17,631, with_licence 0, with_sha256 0",
    )  # fmt: skip


def test_the_bench_times_every_step_and_leaves_nothing(tmp_path):
    steps = [("count the lines", 1.0, lambda space, manifest, folder: manifest.records.num_rows)]
    timings = bench_manifests(tmp_path, steps, n_images=6)
    names = [one.name for one in timings]
    assert [name for name in names if name.startswith("build")] == ["build 6 images", "build 43 images"]
    assert "count the lines" in timings_table(timings)
    assert all(one.seconds > 0 for one in timings)
    assert not list(tmp_path.iterdir())
