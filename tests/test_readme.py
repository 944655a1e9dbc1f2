"""The README: every command of it is run, in its order, in a folder laid out as it says."""

import contextlib
import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

import cli
from annotation.mongod import find_mongod
from curation.sample.commands import WEIGHTS_DIR
from curation.sample.mirror import serving
from curation.sample.world import World, make_world
from manifests import schema
from manifests.frozen import find_manifest
from manifests.workspace import Workspace
from tests.conftest import REPOSITORY
from tests.dml_world import write_folder
from tests.waiting import HANGS_S, StandardError

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(typer.main.get_command(cli.app).commands)
TINY_CLASSIFIER = (
    f"--model test_resnet --n-classes 24 --checkpoint {cli.TINY_CLASSIFIER} --preprocess input_size_px=96"
    " --preprocess crop_fraction=1.0 --preprocess crop_mode=squash"
)


@dataclass(frozen=True)
class Change:
    """What the test puts in the place of words of the README; `new` may name a place of the laid-out folder."""

    words: str
    new: str
    why: str


CHANGES = (
    Change("--release v7", "--release v7 --base-url {releases} --allow-private --cache cache",
           "Open Images' files come from a server of the loopback"),
    Change("download ", "download --base-url {mirror} --allow-private --max-failures 0.15 ",
           "pictures come from the sample's mirror, of whose pictures 8 in 100 are broken on purpose"),
    Change("--model ViT-B-32 --pretrained laion2b_s34b_b79k",
           f"--model {WEIGHTS_DIR}/tiny_clip.json --pretrained {WEIGHTS_DIR}/tiny_clip.safetensors --tiles 2",
           "weights that cannot be downloaded: the sample's tiny CLIP; fewer tiles, to be quick"),
    Change("calibrate --labelled", "calibrate --classes classes.csv --labelled", "the sample has 24 classes"),
    Change("screen --calibration", "screen --classes classes.csv --calibration", "the sample has 24 classes"),
    Change("localize ", "localize --limit 4 ", "four pictures, to be quick"),
    Change("--model resnet50.tv_in1k", TINY_CLASSIFIER,
           "weights that cannot be downloaded: the sample's tiny classifier"),
    Change("retire 0a1b2c3d4e5f6071", "retire {frozen_image}", "an image that is in the set"),
    Change("--official vim", "", "the published ids are no part of the sample: any list will do"),
    Change("--official openood --from-list val_openimage_o.txt --from-list",
           "--from-list val=val_openimage_o.txt --from-list",
           "as above, and with them --official told which list is which split"),
    Change("train-dml --compare --sample",
           "train-dml --compare --data colours --ood out=imagenet/val --network tiny --side 16 --batch-size 8"
           " --epochs 2 --center-schedule scaled",
           "two epochs on 24 pictures of one colour each: to draw and learn the sample's takes a minute"),
    Change("train-localizer --scenes 3000", "train-localizer --scenes 8 --epochs 1 --input-px 64",
           "eight small scenes, to be quick"),
    Change("bench scoring --size tiny", "bench scoring --size tiny --method msp --no-peers",
           "one method, no rivals, to be quick"),
)  # fmt: skip

PEOPLE = {
    "annotate --annotator ana --annotator ben": "simulate-annotators --annotators all-knowing,careful --gold",
    "annotate --annotator fay --queue audit": "simulate-annotators --annotators {auditors} --queue audit",
}
"""What answers where people would, after the App has printed its links and was ended."""

# Of three who know the truth, two have annotated, one of them elsewhere: to the third, all pictures are new.
AUDITORS = "all-knowing,all-knowing,all-knowing"

SERVERS = ("annotate", "browse")


def lines() -> list[str]:
    """Return all lines that the README asks to type, as it has them but for comments."""
    found = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    typed = [line for block in found for line in block.replace("\\\n  ", "").splitlines() if line]
    return [re.sub(r"\s+# .*", "", line) for line in typed]


@dataclass
class Reader:
    """Somebody who types the README line by line.

    Attributes
    ----------
    folder : Path
        Where they are.
    places : dict of str to str
        What `CHANGES` put into the command lines.
    """

    folder: Path
    places: dict[str, str]
    used: set[str] = field(default_factory=set)
    n_commands: int = 0

    def type(self, line: str) -> None:
        if line.startswith("python cli.py "):
            self.run(line.removeprefix("python cli.py "))
        elif line.startswith("cp "):
            subprocess.run(shlex.split(line), cwd=self.folder, check=True)
        else:
            assert line == ". .venv/bin/activate" or line.startswith("make "), f"who runs this? {line}"

    def run(self, line: str) -> None:
        self.n_commands += 1
        # A blank after its last word too: `localize ` is no part of `train-localizer`.
        changed = line + " "
        for change in CHANGES:
            if change.words in changed:
                changed = changed.replace(change.words, change.new)
                self.used.add(change.words)
        arguments = self.arguments(changed)
        if arguments[0] in SERVERS:
            self.serve(arguments)
        else:
            assert cli.run(arguments) == 0, line
        for words, answering in PEOPLE.items():
            if line.startswith(words):
                assert cli.run(self.arguments(f"{answering} --truth truth.csv")) == 0

    def arguments(self, line: str) -> list[str]:
        workspace = Workspace(self.folder / "workspace")
        if "{frozen_image}" in line:
            frozen = find_manifest(workspace.manifests_dir, "openimage_o-1.0.1")
            self.places["frozen_image"] = frozen.records.column("image_id")[0].as_py()
        words = shlex.split(line.format(**self.places))
        assert not any("$" in word for word in words), line
        return words

    def serve(self, arguments: list[str]) -> None:
        """Run a server until it has printed its links, and end it as Ctrl-C does."""
        if find_mongod() is None:
            return
        command = [sys.executable, str(REPOSITORY / "cli.py"), *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FIFTYONE_")}
        process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        standard_error = StandardError(process)
        try:
            said = standard_error.wait_for("Ctrl-C ends")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=HANGS_S)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, standard_error.text
        assert re.search(r"http://127\.0\.0\.1:\d+/", said), said


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def write_csv(path: Path, rows: list[tuple[object, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def lay_out(folder: Path, world: World) -> None:
    """Put into `folder`, under the README's names, what it takes for granted there."""
    world.root.joinpath("imagenet").rename(folder / "imagenet")
    for name in ("train", "val"):
        (folder / "imagenet" / f"{name}_labels.csv").rename(folder / f"{name}.csv")
    for path in (world.metadata_path, world.truth_path, world.classes_path):
        path.rename(folder / path.name)
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as stream:
        truths = list(csv.DictReader(stream))
    ids = [row["image_id"] for row in truths]
    for name, chosen in (
        ("other_set", ids[:2]), ("openimage_o", ids[2:12]), ("val_openimage_o", ids[2:4]),
        ("test_openimage_o", ids[4:12]),
    ):  # fmt: skip
        (folder / f"{name}.txt").write_text("".join(f"test/{one}.jpg\n" for one in chosen))
    known = [("image_id", "answer", "class_index", "note")]
    plain = [row for row in truths if row["kind"] == "plain"]
    known += [(row["image_id"], row["truth"], row["class_index"], "") for row in plain[-6:]]
    write_csv(folder / "gold.csv", known)


def publish(folder: Path, metadata_path: Path) -> None:
    """Put into `folder` Open Images' files, under the names that `--release v7` asks for."""
    images_path = folder / "2018_04" / "test" / metadata_path.name
    images_path.parent.mkdir(parents=True)
    images_path.write_bytes(metadata_path.read_bytes())
    first_id = metadata_path.read_text(encoding="utf-8").splitlines()[1].partition(",")[0]
    write_csv(
        folder / "v7" / "oidv7-class-descriptions.csv", [("LabelName", "DisplayName"), ("/m/0449p", "Jaguar")]
    )
    for source, kind in (("human", "verification"), ("machine", "machine")):
        rows = [("ImageID", "Source", "LabelName", "Confidence"), (first_id, kind, "/m/0449p", "1")]
        write_csv(folder / "v7" / f"oidv7-test-annotations-{source}-imagelabels.csv", rows)


def answer_elsewhere(reader: Reader) -> None:
    """Let somebody annotate on another machine, who has a copy of the workspace."""
    laptop = reader.folder.parent / "laptop"
    laptop.mkdir()
    subprocess.run(["cp", "-r", str(reader.folder / "workspace"), str(laptop / "workspace")], check=True)
    for log in (laptop / "workspace" / "decisions").glob("*"):
        log.unlink()
    words = ["--truth", "truth.csv", "--annotators", "all-knowing,all-knowing"]
    assert cli.run(["simulate-annotators", *words, "--workspace", str(laptop / "workspace")]) == 0
    (laptop / "workspace" / "decisions" / "simulated-all-knowing-1.jsonl").unlink()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The README, typed from its first line to its last."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    world = make_world(folder / "world", n_candidates=120, n_train=10, n_val=6)
    lay_out(folder, world)
    write_folder(folder / "colours")
    publish(folder / "releases", folder / world.metadata_path.name)
    with (
        served(folder / "releases") as releases,
        serving(world.mirror_dir) as mirror,
        contextlib.chdir(folder),
        pytest.MonkeyPatch.context() as patch,
    ):
        # Scenes to judge a localizer by: 150 take half a minute.
        patch.setattr("curation.localize.training_run.N_HELD_OUT_SCENES", 4)
        typing = Reader(folder, {"releases": releases, "mirror": mirror, "auditors": AUDITORS})
        for line in lines():
            if "decisions merge" in line:
                answer_elsewhere(typing)
            typing.type(line)
        yield typing


def test_every_command_runs(reader):
    assert reader.n_commands == README.count("\npython cli.py ") > 40
    assert reader.used == {change.words for change in CHANGES}, "a change that changes nothing"


def test_the_readme_leads_to_a_certified_set_and_a_report(reader):
    workspace = Workspace(reader.folder / "workspace")
    certified = find_manifest(workspace.manifests_dir, "openimage_o-1.0.1")
    assert certified.header["certificate"]["is_certified"]
    with (reader.folder / "truth.csv").open(encoding="utf-8", newline="") as stream:
        truths = {row["image_id"]: row["truth"] for row in csv.DictReader(stream)}
    # One of the two who answered knew the truth.
    assert {truths[image_id] for image_id in certified.image_ids} == {"out"}
    retired = certified.image_ids - find_manifest(workspace.manifests_dir, "openimage_o-2.0.0").image_ids
    assert retired == {reader.places["frozen_image"]}
    page = (workspace.root / "report.html").read_text(encoding="utf-8")
    assert "openimage_o-2.0.0" in page
    assert "simulated-careful-1" in page
    assert workspace.read(schema.LABELS).num_rows == 2


def test_the_lists_become_sets(reader):
    manifests_dir = Workspace(reader.folder / "published_sets").manifests_dir
    counts = [find_manifest(manifests_dir, f"{name}-1.0.0").header["counts"] for name in ("vim", "openimage_o")]
    assert [one["images"] for one in counts] == [10, 10]
    assert (counts[1]["split_val"], counts[1]["split_test"]) == (2, 8)


def test_the_table_of_commands_is_that_of_the_help():
    table = README.partition("## All commands")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| \[`([a-z-]+)`\]", table, re.MULTILINE)) == COMMANDS


def test_what_is_typed_with_make_is_a_target():
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    typed = [word for line in lines() for word in re.findall(r"^make (\S+)$", line)]
    typed += re.findall(r"`make ([a-z-]+)", README)
    assert {"demo", "test", "docs"} <= set(typed) <= set(targets)


def test_extras_and_scripts_that_are_named_exist():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"pip install [^`\n]*\[(\w+)\]", README)
    assert set(extras) <= project["optional-dependencies"].keys()
    assert set(re.findall(r"`(openimage-o) --", README)) <= project["scripts"].keys()


def test_options_that_are_named_between_the_lines_exist():
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    parameters = (
        option
        for command in typer.main.get_command(cli.app).commands.values()
        for parameter in command.params
        for option in parameter.opts
    )
    known = {*parameters, "--help", "--install-completion", "--json", "--dry-run"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose))
    assert len(named) > 8
    assert named - known == set()


def anchors(text: str) -> set[str]:
    """Return the places of a page that GitHub makes of its headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", README))))
def test_a_link_leads_somewhere(target):
    if target.startswith("https://"):
        return
    path, _, anchor = target.partition("#")
    assert not path or (REPOSITORY / path).is_file()
    assert not anchor or anchor in anchors((REPOSITORY / path).read_text() if path else README)
