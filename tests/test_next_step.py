import json
import os
import platform
import shlex
import subprocess
import sys
import time

import pytest
import typer

import cli
from annotation.error_models import simulated_team
from annotation.simulated import simulate_team
from manifests import schema
from manifests.durable import write_json
from manifests.folder_lock import HOLDER_NAME
from manifests.next_step import next_step
from manifests.parquet import write_parquet
from manifests.stage_progress import NOTE_NAME
from manifests.underway import Underway, underway
from manifests.workspace import Workspace
from tests.manifest_world import image_name, verdict, world

COMMANDS = typer.main.get_command(cli.app).commands


def words_after(space, given=None):
    """Return the words of the next step without ``python cli.py`` and the workspace, checked to be such a line."""
    step = next_step(space, given)
    if step is None:
        return None
    words = shlex.split(step.command)
    assert words[:2] == ["python", "cli.py"]
    assert words[-2:] == ["--workspace", str(space.root)]
    command = COMMANDS.get(words[2])
    if command is not None:
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
    return words[2:-2]


def record(space, stage, inputs=(), *, record_as=None, arguments=None, counts=None):
    """Leave a record as a stage that is done does."""
    with space.stage(stage, arguments or {}, [space.root / name for name in inputs], record_as=record_as) as kept:
        kept.counts = dict(counts or {})


def touch_later(path, content=None):
    """Change a file's time, and with `content` its bytes, to after all records."""
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    later = time.time_ns() + 5_000_000_000
    os.utime(path, ns=(later, later))


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "ws")


def downloaded(space, n_images=4, base_url="http://mirror.invalid"):
    names = [image_name(number) for number in range(n_images)]
    space.write(schema.CANDIDATES, [{"image_id": n, "subset": "test", "url": "http://m.invalid"} for n in names])
    nothing = dict.fromkeys(schema.DOWNLOADS.schema.names)
    rows = [
        nothing | {"image_id": n, "status": "ok", "attempts": 1, "path": space.relative_image_path(n)}
        for n in names
    ]
    space.write(schema.DOWNLOADS, rows)
    record(
        space, "download", ["candidates.parquet"], counts={"ok": n_images},
        arguments={"base_url": base_url, "allow_private": True},
    )  # fmt: skip
    return space


def embedded(space, **key):
    folder = space.embeddings_dir / "0123456789abcdef"
    known = {"source": "clip", "model": "ViT-B-32", "pretrained": "tag", "grid": 4, "decoding": "exact"}
    write_json(folder / "model.json", known | key)
    return folder


def finished_store(space):
    (embedded(space) / "unreadable.parquet").touch()
    record(space, "embed", ["downloads.parquet"], record_as="embed.0123456789abcdef")


def screened(space):
    finished_store(downloaded(space))
    rows = [{"image_id": image_name(n), "status": "review", "risk": 0.5, "is_control": False} for n in range(4)]
    space.write(schema.SCREEN, rows)
    record(space, "screen", ["downloads.parquet"], counts={"review": 3, "control": 1})
    return space


def answered(space, annotator_id, numbers):
    lines = "".join(json.dumps({"image_id": image_name(number)}) + "\n" for number in numbers)
    touch_later(space.decisions_dir / f"{annotator_id}.jsonl", lines.encode())


def counted(space, **counts):
    log = space.decisions_dir / "ana.jsonl"
    log.parent.mkdir(exist_ok=True)
    log.write_text("{}\n")
    space.write(schema.VERDICTS, [verdict(number, "out") for number in range(4)])
    record(space, "consensus", ["screen.parquet", "decisions/ana.jsonl"], counts=counts)
    return space


def frozen(space):
    folder = space.manifests_dir / "y-1.0.0"
    write_json(
        folder / "manifest.json",
        {
            "name": "y",
            "version": "1.0.0",
            "counts": {"images": 4, "with_sha256": 4},
            "logs": {"decisions/ana.jsonl": {}},
        },
    )
    has_verdicts = space.has(schema.VERDICTS)
    record(
        space, "build-manifest", ["verdicts.parquet"] if has_verdicts else [], record_as="build-manifest.y-1.0.0"
    )
    return folder


class TestNextStep:
    def test_nothing_is_there(self, space):
        assert words_after(space) == ["candidates", "--release", "v7", "--subset", "test"]

    def test_candidates_are_to_be_downloaded(self, space):
        space.write(schema.CANDIDATES, [{"image_id": "a", "subset": "test", "url": "http://m.invalid"}])
        assert words_after(space) == ["download"]
        space.downloads_log_path.touch()
        assert next_step(space).why == "the download has not come to its end"

    def test_new_candidates_are_downloaded_from_where_the_others_came(self, space):
        downloaded(space)
        touch_later(space.path_of(schema.CANDIDATES), b"others")
        assert words_after(space) == ["download", "--base-url", "http://mirror.invalid", "--allow-private"]

    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
    def test_a_mirror_on_this_machine_is_taken_to_be_gone(self, space, host):
        downloaded(space, base_url=f"http://{host}:9")
        touch_later(space.path_of(schema.CANDIDATES), b"others")
        assert words_after(space) == ["download"]

    def test_what_is_newer_is_read_only_where_that_takes_a_moment(self, space, monkeypatch):
        downloaded(space)
        content = space.path_of(schema.CANDIDATES).read_bytes()
        monkeypatch.setattr("manifests.stage_state._MOST_READ_BYTES", len(content) - 1)
        monkeypatch.setattr("manifests.stage_state.sha256_of_file", lambda path: pytest.fail(f"read {path}"))
        touch_later(space.path_of(schema.CANDIDATES))
        assert words_after(space)[0] == "embed"
        touch_later(space.path_of(schema.CANDIDATES), content + b"x")
        assert words_after(space)[0] == "download"

    def test_a_table_of_the_same_bytes_but_a_later_time_is_current(self, space):
        downloaded(space)
        touch_later(space.path_of(schema.CANDIDATES))
        assert words_after(space)[0] == "embed"

    def test_pictures_are_to_be_embedded(self, space):
        assert words_after(downloaded(space)) == [
            "embed", "--model", "ViT-B-32", "--pretrained", "laion2b_s34b_b79k",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("key", "words"),
        [
            ({}, ["--model", "ViT-B-32", "--pretrained", "tag", "--tiles", "4"]),
            ({"pretrained": "", "grid": 0, "decoding": "fast"},
             ["--model", "ViT-B-32", "--tiles", "0", "--fast-decode"]),
            ({"source": "features", "model": "/f/net", "pretrained": "candidates"},
             ["--features", "/f/net", "--set", "candidates"]),
            ({"source": "classifier", "model": "net", "pretrained": "/w.pt",
              "settings": {"n_classes": 9, "model_arguments": {"a": "b"}, "preprocess": ["vim", "mean=0"]}},
             ["--classifier", "net", "--checkpoint", "/w.pt", "--tiles", "4", "--n-classes", "9", "--model-arg",
              "a=b", "--preprocess", "vim", "--preprocess", "mean=0"]),
        ],
    )  # fmt: skip
    def test_a_store_that_is_not_complete_goes_on_with_its_model(self, space, key, words):
        embedded(downloaded(space), **key)
        assert words_after(space) == ["embed", *words]
        assert next_step(space).why == "embedding has not come to its end"

    def test_pictures_that_changed_are_embedded_again(self, space):
        finished_store(downloaded(space))
        assert words_after(space) == ["screen"]
        touch_later(space.path_of(schema.DOWNLOADS), b"others")
        assert words_after(space)[0] == "embed"

    def test_screen_takes_the_calibration_that_is_there(self, space):
        finished_store(downloaded(space))
        path = space.root / "calibration.json"
        path.touch()
        assert words_after(space) == ["screen", "--calibration", str(path)]

    def test_after_calibrate_screen_gets_its_classes_and_its_file(self, space, tmp_path):
        finished_store(downloaded(space))
        out, classes = tmp_path / "own.json", tmp_path / "classes.csv"
        out.touch()
        given = {"labelled": tmp_path / "truth.csv", "out": out, "classes": classes, "embeddings": ["a", "b"]}
        assert words_after(space, given) == [
            "screen", "--calibration", str(out), "--classes", str(classes), "--embeddings", "a", "--embeddings",
            "b",
        ]  # fmt: skip
        # It may have been made again while the screen is current: that was by another.
        screened(space)
        assert words_after(space) == ["annotate", "--annotator", "NAME"]
        given = {"labelled": tmp_path / "truth.csv", "out": out}
        assert words_after(space, given) == ["screen", "--calibration", str(out)]
        assert next_step(space, given).why == "the last screen was not by this calibration"

    def test_a_screen_that_is_old_is_made_anew_with_its_own_classes(self, space):
        screened(space)
        space.classes_path.write_text("class_index,name,wnid\n0,cat,\n")
        touch_later(space.path_of(schema.DOWNLOADS), b"others")
        record(space, "embed", ["downloads.parquet"], record_as="embed.0123456789abcdef")
        record(space, "download", ["candidates.parquet"], counts={"ok": 4})
        touch_later(space.root / "provenance" / "embed.0123456789abcdef.json")
        assert words_after(space) == ["screen", "--classes", str(space.classes_path)]

    def test_what_is_screened_waits_for_annotators(self, space):
        assert words_after(screened(space)) == ["annotate", "--annotator", "NAME"]
        step = next_step(space)
        assert step.why == "4 images wait for annotators; put your own for NAME"
        assert step.placeholders == ["NAME"]

    def test_nothing_follows_where_all_is_dropped(self, space):
        screened(space)
        record(space, "screen", ["downloads.parquet"], counts={"in_class": 4})
        assert next_step(space) is None

    def test_answers_are_to_be_counted(self, space):
        screened(space)
        counted(space)
        answered(space, "ben", range(4))
        answered(space, "ana", range(3))
        assert words_after(space) == ["annotate", "--annotator", "NAME"]
        assert next_step(space).why == "3 of 4 images have 2 answers; put your own for NAME"
        answered(space, "ana", range(4))
        assert words_after(space) == ["consensus"]

    def test_a_known_answer_need_not_be_asked(self, space):
        screened(space)
        space.write(schema.GOLD, [{"image_id": image_name(3), "answer": "out"}])
        for name in ("ana", "ben"):
            answered(space, name, range(3))
        assert words_after(space) == ["consensus"]

    def test_a_log_without_an_answer_is_none(self, space):
        screened(space)
        touch_later(space.decisions_dir / "ben.jsonl", b"")
        assert words_after(space)[0] == "annotate"

    @pytest.mark.parametrize(
        ("counts", "words"),
        [
            ({"verdict_open": 2, "verdict_disputed": 1}, ["annotate", "--annotator", "NAME"]),
            ({"verdict_disputed": 1, "verdict_out": 3}, ["annotate", "--annotator", "NAME", "--queue", "dispute"]),
            ({"verdict_out": 4}, ["build-manifest"]),
            ({"verdict_in": 4}, None),
        ],
    )
    def test_what_follows_the_verdicts(self, space, counts, words):
        counted(screened(space), **counts)
        assert words_after(space) == words

    def test_a_round_of_inspection_is_answered_first(self, space):
        counted(screened(space), verdict_out=4)
        write_json(space.inspections_dir / "round-1.json", {})
        assert words_after(space) == ["annotate", "--annotator", "NAME", "--queue", "inspection"]

    def test_a_set_that_is_frozen_is_exported_then_audited(self, space):
        counted(screened(space), verdict_out=4, verdict_disputed=1)
        frozen(space)
        assert words_after(space) == ["export", "--format", "openood", "--pictures", "--manifest", "y-1.0.0"]
        (space.root / "exports" / "y-1.0.0").mkdir(parents=True)
        assert words_after(space) == ["audit", "plan", "--manifest", "y-1.0.0", "--bound", "0.01"]

    def test_verdicts_that_changed_need_a_new_version_and_a_later_time_alone_does_not(self, space):
        counted(screened(space), verdict_out=4)
        frozen(space)
        touch_later(space.path_of(schema.VERDICTS))
        assert words_after(space)[0] == "export"
        touch_later(space.path_of(schema.VERDICTS), b"others")
        assert words_after(space) == ["build-manifest", "--version", "auto"]

    def test_a_withdrawal_needs_a_new_version(self, space):
        counted(screened(space), verdict_out=4)
        frozen(space)
        touch_later(space.tombstones_path, b"{}\n")
        assert words_after(space) == ["build-manifest", "--version", "auto"]

    def test_an_audit_is_answered_then_reported_then_certified(self, space):
        counted(screened(space), verdict_out=4)
        frozen(space)
        (space.root / "exports" / "y-1.0.0").mkdir(parents=True)
        write_json(space.audits_dir / "y-1.0.0.json", {})
        assert words_after(space) == ["annotate", "--annotator", "NAME", "--queue", "audit"]
        log = space.decisions_dir / "ana.jsonl"
        log.write_text("{}\n{}\n")
        os.utime(log, ns=(time.time_ns() + 10**9,) * 2)
        assert words_after(space) == ["consensus"]
        record(space, "consensus", ["screen.parquet", "decisions/ana.jsonl"], counts={"verdict_out": 4})
        assert words_after(space) == ["audit", "report", "--name", "y-1.0.0"]
        touch_later(space.certificates_dir / "y-1.0.0.json", b"{}")
        os.utime(space.certificates_dir / "y-1.0.0.json", ns=(time.time_ns() + 10**10,) * 2)
        assert words_after(space) == ["build-manifest", "--version", "auto"]

    def test_features_of_three_sets_then_scores_then_plots_then_the_report(self, space):
        counted(screened(space), verdict_out=4)
        frozen(space)
        (space.root / "exports" / "y-1.0.0").mkdir(parents=True)
        write_json(space.audits_dir / "y-1.0.0.json", {})
        write_json(space.certificates_dir / "y-1.0.0.json", {})
        frozen(space)
        assert words_after(space) == [
            "extract-features", "--model", "resnet50.tv_in1k", "--set", "train", "--images", "imagenet/train",
            "--labels", "train.csv",
        ]  # fmt: skip
        folder = space.features_dir / "net"
        folder.mkdir(parents=True)
        (folder / "head.safetensors").touch()
        (folder / "train.parquet").touch()
        arguments = {"model": "net", "preprocess": ["vim", "mean=0"], "n_classes": "9"}
        record(space, "extract-features", record_as="extract-features.net.train", arguments=arguments)
        own = ["--model", "net", "--n-classes", "9", "--preprocess", "vim", "--preprocess", "mean=0"]
        assert words_after(space) == [
            "extract-features", *own, "--set", "val", "--images", "imagenet/val", "--labels", "val.csv",
        ]  # fmt: skip
        (folder / "val.parquet").touch()
        assert words_after(space) == ["extract-features", *own, "--set", "y", "--manifest", "y-1.0.0"]
        (folder / "y.parquet").touch()
        assert words_after(space) == [
            "score", "--features", "net", "--train", "train", "--val", "val", "--ood", "y",
        ]  # fmt: skip
        touch_later(space.scores_dir / "net" / "scores.parquet", b"")
        assert words_after(space) == ["plot", "--scores", "net"]
        (space.scores_dir / "net" / "plots").mkdir()
        assert words_after(space) == ["report"]
        touch_later(space.root / "report.html", b"")
        assert next_step(space) is None

    def test_an_official_list_alone_needs_no_candidates(self, space):
        folder = frozen(space)
        write_json(
            folder / "manifest.json", {"name": "y", "version": "1.0.0", "counts": {"images": 4}, "logs": {}}
        )
        assert words_after(space) == ["export", "--format", "openood", "--manifest", "y-1.0.0"]

    def test_a_damaged_record_says_no_more_than_none(self, space):
        downloaded(space)
        (space.root / "provenance" / "download.json").write_text("{half")
        assert words_after(space) == ["download"]


class TestUnderway:
    def test_nothing_is_under_way_in_a_quiet_workspace(self, space):
        assert underway(screened(space)) == []

    def test_a_running_stage_is_told_with_its_pace(self, space):
        with space.stage("embed", {}):
            write_json(space.root / NOTE_NAME, note(n_done=150, n_before=50, n_total=250, n_failed=2, seconds=10))
            (one,) = underway(space)
        assert (one.stage, one.state, one.n_done, one.n_total, one.n_failed) == ("embed", "running", 150, 250, 2)
        assert one.per_s == pytest.approx(10)
        assert one.seconds_left == pytest.approx(10, abs=1)
        assert str(one).startswith("running: embed, 150 of 250 images (60%), 2 failed, 10.0 a second, about ")
        assert underway(space) == []

    def test_a_stage_in_a_part_of_its_work_names_the_part(self, space):
        with space.stage("screen", {}):
            write_json(space.root / NOTE_NAME, note(what="hash", n_done=0, n_before=0, n_total=9))
            (one,) = underway(space)
        assert (one.stage, one.per_s, one.seconds_left) == ("screen (hash)", None, None)

    def test_a_process_that_is_gone_was_killed(self, space):
        finished = subprocess.Popen([sys.executable, "-c", ""])
        finished.wait()
        space.root.mkdir()
        holder = {"process": finished.pid, "host": platform.node(), "stage": "quality", "since": "then"}
        write_json(space.root / HOLDER_NAME, holder)
        write_json(space.root / NOTE_NAME, note(what="quality", n_done=5, n_before=0, n_total=9))
        (one,) = underway(space)
        assert (one.stage, one.state, one.n_done, one.n_total, one.per_s) == ("quality", "killed", 5, 9, None)

    def test_a_process_on_another_machine_cannot_be_asked_and_counts_as_running(self, space):
        space.root.mkdir()
        write_json(
            space.root / HOLDER_NAME, {"process": 1, "host": "elsewhere", "stage": "embed", "since": "then"}
        )
        (one,) = underway(space)
        assert (one.state, one.who) == ("running", "process 1 on elsewhere since then")

    def test_a_download_that_stopped_counts_each_candidate_once(self, space):
        names = [image_name(number) for number in range(4)]
        space.write(
            schema.CANDIDATES, [{"image_id": n, "subset": "test", "url": "http://m.invalid"} for n in names]
        )
        rows = [
            {"attempts": 1, "image_id": n, "status": "ok"} for n in (names[0], names[1], names[0], "withdrawn")
        ]
        space.downloads_log_path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
        assert underway(space) == [Underway("download", "not complete", 2, 4)]

    def test_a_store_that_is_not_complete_counts_its_pictures(self, space):
        embedded(downloaded(space))
        assert underway(space) == [Underway("embed (store 0123456789abcdef)", "not complete", 0, 4)]

    def test_a_stage_that_failed_is_told_until_it_is_done(self, space):
        with pytest.raises(ValueError, match="why"), space.stage("screen", {}):
            raise ValueError("why")
        (one,) = underway(space)
        assert (one.stage, one.state) == ("screen", "failed")
        record(space, "screen")
        touch_later(space.root / "provenance" / "screen.json")
        assert underway(space) == []

    def test_status_tells_it_and_what_follows(self, space, capsys):
        embedded(downloaded(space))
        assert cli.run(["status", "--workspace", str(space.root)]) == 0
        out, err = capsys.readouterr()
        assert "not complete: embed (store 0123456789abcdef), 0 of 4 images (0%)\n" in out
        assert err.startswith("next: python cli.py embed --model ViT-B-32 --pretrained tag --tiles 4 ")

    def test_status_while_a_stage_runs_has_no_next_step(self, space, capsys):
        with downloaded(space).stage("embed", {}):
            assert cli.run(["status", "--workspace", str(space.root), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["next"] is None
        (one,) = told["data"]["underway"]
        assert (one["stage"], one["state"]) == ("embed", "running")
        assert told["data"]["funnel"][0] == {"stage": "candidates", "n_images": 4, "left": {}, "is_done": True}


def note(*, what="embed", n_done, n_before, n_total, n_failed=0, seconds=1):
    now = time.time()
    return {
        "what": what, "unit": "img", "n_done": n_done, "n_total": n_total, "n_failed": n_failed,
        "n_before": n_before, "started": now - seconds, "at": now,
    }  # fmt: skip


def test_the_chain_of_a_real_manifest_ends_in_what_is_told(tmp_path, capsys):
    space = world(tmp_path / "ws", 6, words={0: "in"})
    assert cli.run(["build-manifest", "--workspace", str(space.root)]) == 0
    told = capsys.readouterr().err
    assert told == f"next: python cli.py download --workspace {space.root}\n"


def test_simulated_answers_are_to_be_counted_and_then_are(tmp_path, capsys):
    from tests.simulated_world import make_world

    made = make_world(tmp_path / "ws", n_images=6, share_in=0.5)
    space = made.workspace
    record(space, "download", ["candidates.parquet"], counts={"ok": 6})
    record(space, "screen", counts={"review": 6})
    simulate_team(space, made.truth_path, simulated_team(["careful", "careful"]))
    assert words_after(space) == ["consensus"]
    assert cli.run(["consensus", "--workspace", str(space.root)]) == 0
    assert words_after(space)[0] in ("annotate", "build-manifest")


@pytest.mark.parametrize("folder", ["features", "training", "localizer"])
def test_a_folder_of_features_or_of_a_training_is_not_asked_for_candidates(space, folder):
    assert words_after(space)[0] == "candidates"
    (space.root / folder).mkdir(parents=True)
    assert words_after(space) is None
    world(space.root, 1)
    assert words_after(space) is not None


@pytest.mark.parametrize("outcome", ["json", "failed.json"])
def test_a_training_into_another_folder_is_not_asked_for_candidates(space, outcome):
    folder = space.root / "provenance"
    folder.mkdir(parents=True)
    (folder / f"train-localizer.{outcome}").write_text('{"stage": "train-localizer"}')
    assert words_after(space) is None
    (folder / "labels.json").write_text('{"stage": "labels"}')
    assert words_after(space)[0] == "candidates"


def test_a_demo_that_was_stopped_early_is_not_asked_for_candidates(space):
    space.root.mkdir(parents=True, exist_ok=True)
    (space.root / ".made-by-demo").touch()
    assert words_after(space) is None


def test_a_table_of_another_version_leaves_what_follows_to_whoever_reads_it(tmp_path):
    space = world(tmp_path, 2)
    for stage in ("download", "screen"):
        record(space, stage, counts={"ok": 2, "review": 2})
    (space.decisions_dir / "ada.jsonl").write_text(f'{{"image_id": "{image_name(0)}"}}\n')
    assert words_after(space)[0] == "annotate"
    write_parquet(space.path_of(schema.SCREEN), schema.WITHDRAWN.schema.empty_table())
    assert next_step(space) is None
