"""The main job in small, each stage first tried and then run: what was tried changes nothing and comes true."""

import contextlib
import errno
import functools
import io
import json
import re
from dataclasses import dataclass, field

import pytest
import typer

import cli
from manifests import schema
from manifests.durable import delete, write_text
from manifests.errors import InputError
from manifests.frozen import find_manifest
from manifests.label_space import ClassName, write_label_space
from manifests.shadow import shadow_of, watch_of
from manifests.work_plan import Fetch, WorkPlan, size_in_words
from manifests.workspace import Workspace
from manifests.writes import WriteWatch, changeable, watching
from tests.conftest import REPOSITORY
from tests.fault_server import serving
from tests.screen_world import noise_jpeg
from tests.tiny_clip import make_tiny_clip

IMAGE_IDS = [f"{number:016x}" for number in range(12)]

# Neither writes what outlasts it, or what it does is a person's or a clock's.
WITHOUT_DRY_RUN = {"annotate", "browse", "bench", "demo", "plan", "status", "verify-manifest"}
# Not in this job: each has tests of its own below or beside it.
ELSEWHERE = {
    "labels", "calibrate", "leaks", "decisions", "inspect", "diff", "extract-features", "score", "plot",
    "localize", "train-dml", "train-localizer", "report",
}  # fmt: skip


@dataclass
class Job:
    """What happened at each stage: the object of the dry run, that of the run, and the trees around the former."""

    root: object
    server: object
    tried: dict = field(default_factory=dict)
    done: dict = field(default_factory=dict)
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)
    n_requests: dict = field(default_factory=dict)

    def run(self, command, *options):
        self.before[command] = tree_of(self.root.parent)
        n_requests = self.server.requests.total()
        self.tried[command] = run_json(command, *options, "--dry-run", "--workspace", self.root)
        self.n_requests[command] = self.server.requests.total() - n_requests
        self.after[command] = tree_of(self.root.parent)
        self.done[command] = run_json(command, *options, "--workspace", self.root)


def run_json(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([*map(str, arguments), "--json"])
    assert code == 0, err.getvalue()
    return json.loads(out.getvalue())


def tree_of(folder):
    """Return bytes and time of change of every file, hidden ones too, and every folder."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    (folder / "ids.txt").write_text("\n".join(IMAGE_IDS))
    (folder / "truth.csv").write_text(
        "image_id,truth,class_index\n" + "".join(f"{image_id},out,\n" for image_id in IMAGE_IDS)
    )
    (folder / "gold.csv").write_text(f"image_id,answer\n{IMAGE_IDS[0]},out\n")
    write_label_space(folder / "classes.csv", [ClassName(index, f"thing {index}") for index in range(12)])
    clip = ("--model", "--pretrained")
    model = [word for pair in zip(clip, make_tiny_clip(folder), strict=True) for word in pair]
    scripts = {
        f"/test/{image_id}.jpg": functools.partial(answer, content=noise_jpeg(number))
        for number, image_id in enumerate(IMAGE_IDS[:-1])
    }
    with serving(scripts) as server:
        job = Job(folder / "ws", server)
        job.run("candidates", "--metadata", folder / "ids.txt")
        job.run("download", "--base-url", server.base_url, "--allow-private", "--max-failures", 0.2)
        job.run("embed", *model, "--tiles", 0, "--device", "cpu")
        job.run("quality")
        job.run("duplicates", "--workers", 1)
        job.run("screen", "--classes", folder / "classes.csv", "--templates", "simple", "--device", "cpu")
        job.run("gold", "--add", folder / "gold.csv")
        job.run("simulate-annotators", "--truth", folder / "truth.csv")
        job.run("consensus")
        job.run("annotators")
        job.run("build-manifest")
        job.run("export", "--format", "csv", "--format", "openood")
        job.run("audit", "plan")
        job.run("retire", frozen_id(job.root), "--reason", "its author asked")
        yield job


def answer(handler, _, content):
    handler.answer(200, content)


def frozen_id(root):
    return min(find_manifest(root / "manifests", None).image_ids)


STAGES = (
    "candidates", "download", "embed", "quality", "duplicates", "screen", "gold", "simulate-annotators",
    "consensus", "annotators", "build-manifest", "export", "audit", "retire",
)  # fmt: skip
PLANNED = ("download", "embed", "quality", "export")
REHEARSED = [stage for stage in STAGES if stage not in PLANNED]


def test_every_command_that_writes_takes_dry_run():
    commands = typer.main.get_command(cli.app).commands
    takes = {name for name, one in commands.items() if any("--dry-run" in p.opts for p in one.params)}
    assert takes.isdisjoint(WITHOUT_DRY_RUN)
    assert set(STAGES) <= takes
    assert commands.keys() - takes - WITHOUT_DRY_RUN <= ELSEWHERE


@pytest.mark.parametrize("stage", STAGES)
def test_a_dry_run_changes_no_byte_no_time_and_makes_no_file(job, stage):
    assert job.after[stage] == job.before[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_dry_run_asks_nobody(job, stage):
    assert job.n_requests[stage] == 0


@pytest.mark.parametrize("stage", [stage for stage in REHEARSED if stage != "retire"])
def test_a_stage_tried_prints_and_counts_what_the_run_then_does(job, stage):
    tried, done = job.tried[stage], job.done[stage]
    assert tried["counts"] == done["counts"]
    assert tried["text"][: len(done["text"])] == done["text"]
    assert tried["text"][-1] == "dry run: nothing was written, fetched or locked"


@pytest.mark.parametrize("stage", REHEARSED)
def test_a_stage_tried_names_the_files_that_the_run_then_writes(job, stage):
    tried = {one["path"] for one in job.tried[stage]["written"]}
    done = {one["path"] for one in job.done[stage]["written"]}
    # A file of the same bytes need not be written again, and a folder may stand for its files in one of them.
    assert done <= tried
    assert all(one["change"] in ("new", "replaced", "same") for one in job.tried[stage]["written"])


def test_the_first_run_of_a_stage_would_make_new_files(job):
    told = {one["path"]: one["change"] for one in job.tried["screen"]["written"]}
    assert told[str(job.root / "screen.parquet")] == "new"
    assert told[str(job.root / "duplicates.parquet")] == "same"


def test_a_download_is_planned_by_host_and_size(job):
    plan = job.tried["download"]["plan"]
    assert (plan["n_due"], plan["n_done"]) == (12, 0)
    (fetch,) = plan["fetches"]
    assert (fetch["place"], fetch["n_files"]) == (f"127.0.0.1:{job.server.port}", 12)
    # Nothing is here yet: the mean of Open Images' test pictures.
    assert (fetch["size_bytes"], fetch["is_estimate"]) == (12 * 287_000, True)
    assert str(job.root / "downloads.jsonl") in plan["writes"]


def test_a_later_download_plans_only_what_is_missing_by_the_mean_of_what_is_here(job):
    options = ("--base-url", job.server.base_url, "--allow-private", "--workspace", job.root, "--dry-run")
    assert run_json("download", *options)["plan"]["n_due"] == 0

    plan = run_json("download", "--retry", "missing", *options)["plan"]

    sizes = Workspace(job.root).read(schema.DOWNLOADS).column("size_bytes").to_pylist()
    known = [size for size in sizes if size is not None]
    assert (plan["n_due"], plan["n_done"]) == (1, 11)
    assert plan["fetches"][0]["size_bytes"] == round(sum(known) / len(known))


def test_embed_plans_all_at_first_and_nothing_of_the_same_model_after(job):
    first = job.tried["embed"]["plan"]
    assert (first["n_due"], first["n_done"], first["fetches"]) == (11, 0, [])
    folder = job.root.parent
    arguments = ("--model", folder / "tiny-test.json", "--pretrained", folder / "tiny-test.safetensors")
    again = run_json("embed", *arguments, "--tiles", 0, "--dry-run", "--workspace", job.root)["plan"]
    assert (again["n_due"], again["n_done"]) == (0, 11)
    (record,) = again["writes"]
    assert record.startswith(f"{job.root}/provenance/embed.")


def test_embed_says_that_named_weights_may_be_fetched_and_fetches_none(job):
    arguments = ("--model", "ViT-B-32", "--pretrained", "laion2b_s34b_b79k", "--dry-run", "--workspace", job.root)
    (fetch,) = run_json("embed", *arguments)["plan"]["fetches"]
    assert fetch["what"] == "weights of ViT-B-32 laion2b_s34b_b79k"
    assert fetch["size_bytes"] is None


def test_quality_plans_by_the_pictures_it_has_not_measured(job):
    assert job.tried["quality"]["plan"]["n_due"] == 11
    again = run_json("quality", "--dry-run", "--workspace", job.root)["plan"]
    assert (again["n_due"], again["n_done"]) == (0, 11)


def test_an_export_is_planned_with_its_folders(job):
    plan = job.tried["export"]["plan"]
    exports = job.root / "exports" / "openimage_o-1.0.0"
    assert plan["writes"] == [
        str(exports / "csv"), str(exports / "openood"),
        str(job.root / "provenance" / "export.openimage_o-1.0.0.csv.json"),
        str(job.root / "provenance" / "export.openimage_o-1.0.0.openood.json"),
    ]  # fmt: skip
    assert plan["n_due"] == job.done["build-manifest"]["counts"]["images"]


def test_extract_features_plans_without_a_model(job, tmp_path):
    plan = run_json(
        "extract-features", "--model", "resnet50.tv_in1k", "--set", "candidates", "--dry-run", "--workspace",
        job.root,
    )["plan"]  # fmt: skip
    assert (plan["n_due"], plan["n_done"]) == (11, 0)
    assert [fetch["what"] for fetch in plan["fetches"]] == ["weights of resnet50.tv_in1k"]
    folder = job.root / "features" / "resnet50.tv_in1k"
    names = ("candidates.parquet", "candidates.json", "candidates.unreadable.csv", "head.safetensors")
    assert plan["writes"] == [
        *(str(folder / name) for name in names),
        str(job.root / "provenance" / "extract-features.resnet50.tv_in1k.candidates.json"),
    ]  # fmt: skip


@pytest.mark.parametrize("stage", PLANNED)
def test_a_plan_lists_what_the_run_then_writes(job, stage):
    told = [one["path"] for one in job.tried[stage]["written"]]
    assert told == job.tried[stage]["plan"]["writes"]
    assert {one["change"] for one in job.tried[stage]["written"]} == {"new"}
    for one in job.done[stage]["written"]:
        # The store of a model is named after its weights, which a plan does not read.
        in_store = stage == "embed" and ("/embeddings/" in one["path"] or "/provenance/embed." in one["path"])
        assert in_store or any(one["path"] == path or one["path"].startswith(f"{path}/") for path in told), one
    assert job.tried[stage]["counts"] == {
        "to_do": job.tried[stage]["plan"]["n_due"], "done_already": job.tried[stage]["plan"]["n_done"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed"], "--pretrained: ViT-B-32 needs weights"),
        (["embed", "--model", "nonsense", "--pretrained", "x"], "open_clip knows no such model"),
        (["embed", "--pretrained", "nosuchtag"], "neither a file nor a weights tag of ViT-B-32"),
        (["embed", "--pretrained", "laion2b_s34b_b79k", "--tiles", "-1"], "--tiles: expected 0 or more"),
        (["embed", "--classifier", "nosuchmodel"], "timm has none of that name"),
        (["extract-features", "--set", "x", "--model", "nosuchmodel"], "timm has none of that name"),
        (["extract-features", "--set", "x", "--model", "resnet18", "--checkpoint", "n"], "n: no such file"),
        (["embed", "--classifier", "resnet18", "--checkpoint", "/"], "/: expected a file, found a folder"),
        (["extract-features", "--set", "x", "--model", "resnet18", "--preprocess", "a=b"], "'a' is not known"),
        (["extract-features", "--set", "x", "--clip", "ViT-B-32"], "--pretrained: ViT-B-32 needs weights"),
    ],
)  # fmt: skip
def test_a_dry_run_refuses_a_model_that_the_run_would_refuse(job, arguments, message, capsys):
    assert cli.run([*arguments, "--dry-run", "--workspace", str(job.root)]) == 1
    tried = capsys.readouterr().err
    assert message in tried
    if "--preprocess" in arguments:
        # Told here before the weights are asked for, and by a run after.
        return
    assert cli.run([*arguments, "--workspace", str(job.root)]) == 1
    assert capsys.readouterr().err == tried


def test_a_release_that_is_not_here_is_planned_and_not_fetched(job, tmp_path):
    arguments = ("labels", "--release", "v3", "--cache", tmp_path / "cache", "--base-url", job.server.base_url)
    n_requests = job.server.requests.total()

    plan = run_json(*arguments, "--allow-private", "--dry-run", "--workspace", job.root)["plan"]

    assert [(fetch["what"], fetch["size_bytes"]) for fetch in plan["fetches"]] == [
        ("annotations_human_2017_11.tar.gz", 137_000_000),
        ("annotations_machine_2017_11.tar.gz", 447_000_000),
        ("classes_2017_11.tar.gz", 295_000),
    ]
    assert job.server.requests.total() == n_requests
    assert not (tmp_path / "cache").exists()


def test_a_list_by_its_address_is_planned_and_not_fetched(job, tmp_path):
    address = f"{job.server.base_url}/list.txt"
    n_requests = job.server.requests.total()

    plan = run_json(
        "build-manifest", "--from-list", address, "--cache", tmp_path, "--allow-private", "--dry-run",
        "--workspace", job.root,
    )["plan"]  # fmt: skip

    assert [fetch["place"] for fetch in plan["fetches"]] == [address]
    assert job.server.requests.total() == n_requests


def test_an_inspection_tried_draws_no_round(job):
    before = tree_of(job.root)
    tried = run_json("inspect", "--sample", 2, "--dry-run", "--workspace", job.root)
    assert next(one["path"] for one in tried["written"]) == str(job.root / "inspections" / "round-1.json")
    assert tree_of(job.root) == before


def test_files_outside_the_workspace_are_not_written_either(job, tmp_path):
    tried = run_json(
        "diff", "openimage_o-1.0.0", "openimage_o-1.0.0", "--out", tmp_path / "diff.csv", "--html",
        tmp_path / "diff.html", "--dry-run", "--workspace", job.root,
    )  # fmt: skip
    assert {one["path"]: one["change"] for one in tried["written"]} == {
        str(tmp_path / "diff.csv"): "new", str(tmp_path / "diff.html"): "new",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_goes_beside_a_stage_that_holds_the_workspace(job):
    with Workspace(job.root).stage("screen", {}):
        tried = run_json("consensus", "--dry-run", "--workspace", job.root)
    assert tried["counts"]["verdict_out"] == job.done["consensus"]["counts"]["verdict_out"]


def test_the_next_step_of_a_dry_run_is_the_run(job):
    assert job.tried["consensus"]["next"]["command"] == f"python cli.py consensus --workspace {job.root}"


def test_an_error_of_a_dry_run_names_the_workspace_and_not_its_shadow(tmp_path, capsys):
    assert cli.run(["download", "--dry-run", "--workspace", str(tmp_path / "ws")]) == 1
    expected = f"error: {tmp_path / 'ws'}/candidates.parquet is not there: run the stage 'candidates' on this"
    assert capsys.readouterr().err.startswith(expected)
    assert not (tmp_path / "ws").exists()


def test_a_dry_run_says_in_lines_what_would_be_written(tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("a\nb\n")

    arguments = ["candidates", "--metadata", str(tmp_path / "ids.txt"), "--workspace", str(tmp_path / "ws")]
    assert cli.run([*arguments, "--dry-run"]) == 0

    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "candidates: test 2"
    assert lines[1].startswith(f"would write {tmp_path / 'ws' / 'candidates.parquet'}: new, ")
    assert lines[-1] == "dry run: nothing was written, fetched or locked"
    assert err == f"next: python cli.py {' '.join(arguments)}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ids.txt"]


class TestShadow:
    def test_what_is_deleted_replaced_and_appended_there_is_told_and_not_done(self, tmp_path):
        root = tmp_path / "ws"
        (root / "parts").mkdir(parents=True)
        (root / "logs").mkdir()
        for name, text in (
            ("gone", "1"), ("kept", "2"), ("parts/changed", "3"), ("parts/kept", "3"), ("parts/gone", "3"),
            ("log.jsonl", "4\n"), ("logs/ana.jsonl", "6\n"), ("logs/ben.jsonl", "6\n"),
        ):  # fmt: skip
            (root / name).write_text(text)
        before = tree_of(root)

        with shadow_of(root) as shadow:
            with watching(watch_of(shadow)):
                delete(shadow.root / "gone")
                write_text(shadow.root / "new", "four")
                write_text(shadow.root / "parts" / "changed", "33")
                delete(shadow.root / "parts" / "gone")
                with changeable(shadow.root / "log.jsonl").open("a") as stream:
                    stream.write("5\n")
                with changeable(shadow.root / "logs" / "ana.jsonl").open("a") as stream:
                    stream.write("7\n")
            changes = {
                one.path.relative_to(root).as_posix(): (one.change, one.size_bytes) for one in shadow.changes()
            }

        assert changes == {
            "gone": ("deleted", 0), "new": ("new", 4), "parts/changed": ("replaced", 2),
            "parts/gone": ("deleted", 0), "log.jsonl": ("replaced", 4), "logs/ana.jsonl": ("replaced", 4),
        }  # fmt: skip
        assert tree_of(root) == before

    def test_a_log_that_nothing_was_appended_to_is_no_change(self, tmp_path):
        (tmp_path / "log.jsonl").write_text("1\n")
        with shadow_of(tmp_path) as shadow:
            assert shadow.changes() == []
            assert changeable(shadow.root / "log.jsonl").read_text() == "1\n"
            assert shadow.changes() == []

    def test_it_costs_what_is_written_and_not_what_the_workspace_holds(self, tmp_path):
        for folder in ("embeddings", "stray", "manifests/y-1.0.0"):
            (tmp_path / folder).mkdir(parents=True)
            for number in range(50):
                (tmp_path / folder / str(number)).touch()
        (tmp_path / "downloads.jsonl").write_text("1\n")
        with shadow_of(tmp_path) as shadow, watching(watch_of(shadow)):
            write_text(shadow.root / "manifests" / "y-2.0.0" / "manifest.json", "{}")
            own = {path.relative_to(shadow.root).as_posix() for path in shadow.root.rglob("*")}
            links = {name for name in own if (shadow.root / name).is_symlink()}
        assert links == {"embeddings", "stray", "downloads.jsonl", "manifests/y-1.0.0"}
        assert own - links == {"manifests", "manifests/y-2.0.0", "manifests/y-2.0.0/manifest.json"}

    def test_no_room_for_it_is_said_of_its_own_folder_and_not_of_the_users_file(self, tmp_path):
        def fill():
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "downloads.jsonl"))

        with (
            pytest.raises(InputError, match=r"the dry run needs room in /.* name another folder in TMPDIR"),
            shadow_of(tmp_path),
        ):
            fill()

    def test_a_folder_that_is_a_link_to_another_disk_is_in_the_shadow(self, tmp_path):
        (tmp_path / "disk").mkdir()
        (tmp_path / "disk" / "shard").write_text("1")
        (tmp_path / "ws").mkdir()
        (tmp_path / "ws" / "embeddings").symlink_to(tmp_path / "disk")
        with shadow_of(tmp_path / "ws") as shadow:
            assert (shadow.root / "embeddings" / "shard").read_text() == "1"
            with watching(watch_of(shadow)):
                delete(shadow.root / "embeddings" / "shard")
            assert [one.change for one in shadow.changes()] == ["deleted"]
        assert (tmp_path / "disk" / "shard").read_text() == "1"

    def test_texts_name_the_workspace(self, tmp_path):
        with shadow_of(tmp_path / "ws") as shadow:
            assert shadow.told(f"{shadow.root}/a and {shadow.root}") == f"{tmp_path}/ws/a and {tmp_path}/ws"

    def test_the_shadow_goes_with_the_block(self, tmp_path):
        with shadow_of(tmp_path / "ws") as shadow:
            root = shadow.root
            assert root.is_dir()
        assert not root.exists()


def test_a_watch_sees_each_file_once_and_no_hidden_one(tmp_path):
    with watching(WriteWatch()) as watch:
        for name in ("a", ".hidden", "a"):
            write_text(tmp_path / name, "text")
    write_text(tmp_path / "later", "text")
    assert list(watch.paths) == [tmp_path / "a"]


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (12_340, "12.3 kB"), (36_000_000_000, "36 GB"),
     (999_900, "1,000 kB"), (5_000_000_000_000_000, "5,000 TB")],
)  # fmt: skip
def test_sizes_in_words(size_bytes, words):
    assert size_in_words(size_bytes) == words


def test_a_plan_in_lines():
    plan = WorkPlan(
        1200, 300, reads=["a table"], fetches=[Fetch("pictures", "host", 1200, 372_000_000, True)],
        writes=["images/"], notes=["and so on"],
    )  # fmt: skip
    assert plan.lines() == [
        "images to do: 1,200; done already: 300",
        "would read a table",
        "would fetch 1,200 pictures from host, about 372 MB",
        "would write images/",
        "and so on",
    ]


# What changes, deletes or moves files without asking `manifests.writes` would reach the workspace through a link.
IN_PLACE = re.compile(r"""\.unlink\(|rmtree\(|truncate\(|os\.open\(|\.rename\(|\.touch\(|open\("(?:a|r\+|x)""")
IN_PLACE_ALLOWED = {
    "manifests/durable.py": "asks",
    "manifests/shadow.py": "is the shadow",
    "manifests/tombstones.py": "asks",
    "annotation/decision_log.py": "asks",
    "annotation/sent_masks.py": "of a command that has no dry run",
    "manifests/process_edge.py": "no file of a workspace",
    "manifests/folder_lock.py": "at the root, which is the shadow's own, or of a stage that plans",
    "manifests/workspace.py": "at the root, which is the shadow's own",
    "manifests/stage_progress.py": "at the root, which is the shadow's own",
    "manifests/verify_pictures.py": "reads",
    "curation/download_log.py": "of a stage that plans",
    "curation/picture_store.py": "of a stage that plans",
    "curation/picture_check.py": "of a stage that plans",
    "curation/picture_processes.py": "no file of a workspace",
    "curation/list_files.py": "of a file to fetch, which is planned",
    "curation/fetch_file.py": "of a file to fetch, which is planned",
    "curation/releases.py": "of a file to fetch, which is planned",
    "scoring/extract.py": "of a stage that plans",
    "scoring/partial_sets.py": "of a stage that plans",
    "scoring/score.py": "of a stage that plans",
    "scoring/dml/trained.py": "of a stage that plans",
    "manifests/exporters/exported_folder.py": "of a stage that plans",
    "manifests/report/pictures.py": "of a stage that plans",
    "annotation/annotate.py": "has no dry run",
    "annotation/links.py": "has no dry run",
    "annotation/mongod.py": "has no dry run",
}  # fmt: skip


def test_nothing_else_changes_files_in_place():
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("annotation", "curation", "manifests", "scoring")
        for path in (REPOSITORY / folder).rglob("*.py")
        if IN_PLACE.search(path.read_text())
        and "bench" not in path.as_posix()
        and "/sample/" not in path.as_posix()
    }
    assert found - IN_PLACE_ALLOWED.keys() == set()
