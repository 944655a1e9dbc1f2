"""The curator: what is known of each picture as columns, what may be asked, and the real grid in Chromium."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pytest

from annotation.app.curator_policy import CuratorPolicy, curator_objection
from annotation.app.policy import Refusal, new_token
from annotation.browse import browse
from annotation.decision_log import log_path, open_log
from annotation.picture_facts import FACTS, disagreement, newest_manifests, read_facts
from annotation.vectors import find_vectors
from manifests import schema
from manifests.errors import InputError, StageMissingError, ToolMissingError, WorkspaceLockedError
from manifests.parquet import write_parquet
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace
from tests.annotation_app import CHROMIUM, CHROMIUM_FLAGS, REPOSITORY, needs_app
from tests.annotation_workspace import decision, image_id_of, make_workspace, shown_classes_of
from tests.waiting import HANGS_S, StandardError

DATASET, DATASET_ID = "openimage-o-0123456789ab-curator", "6b01c1d3c1922b3c5cd3537c"
HOST = "127.0.0.1:5151"
ID = [image_id_of(number) for number in range(8)]


def add_later_tables(workspace: Workspace) -> None:
    """Duplicates of picture 2, quality flags on 3, gold 4, labels and verdicts, and answers of two annotators."""
    like = {"kind": "bytes", "bits": 0, "similarity": None, "agreement": 1.0}
    workspace.write(schema.DUPLICATES, [like | {"image_id": ID[n], "duplicate_of": ID[2]} for n in (0, 3)])
    checks = schema.QUALITY_CHECKS
    workspace.write(
        schema.QUALITY,
        [
            {"image_id": ID[n], "sha256": "0"}
            | {f"{check}_score": 0.5 for check in checks}
            | {f"is_{check}": n == 3 and check in ("blur", "dark") for check in checks}
            for n in range(6)
        ],
    )
    workspace.write(schema.GOLD, [{"image_id": ID[4], "answer": "in", "class_index": 2, "note": None}])
    label = {"image_id": ID[1], "wnid": None}
    workspace.write(
        schema.LABELS,
        [
            label | {"label_mid": "/m/1", "label_name": "Tree", "source": "human", "confidence": 1.0},
            label | {"label_mid": "/m/2", "label_name": "Dog", "source": "human", "confidence": 0.0},
            label | {"label_mid": "/m/3", "label_name": None, "source": "machine", "confidence": 0.7},
        ],
    )
    counts = {"n_out": 9, "n_in": 9, "n_difficult": 9, "class_index": None}
    words = ("out", "disputed", "disputed", "in", "open", "difficult")
    workspace.write(
        schema.VERDICTS,
        [counts | {"image_id": ID[n], "verdict": word, "source": "consensus"} for n, word in enumerate(words)],
    )
    with open_log(workspace, "ann") as log:
        log.append_all([decision("a1", ID[0]), decision("a2", ID[1], "in", note="<b>fin"), decision("a3", ID[2])])
        log.append(decision("a4", ID[2], "undo"))
    with open_log(workspace, "ben") as log:
        log.append_all([decision("b1", ID[0]), decision("b2", ID[1]), decision("b3", ID[2], "skip")])
        log.append(decision("b4", ID[1], "difficult", queue="dispute"))


def add_embeddings(
    workspace: Workspace, name: str = "0123", source: str = "clip", model: str = "ViT-B-32"
) -> Path:
    folder = workspace.embeddings_dir / name
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"source": source, "model": model}))
    pictures = list(stored_pictures(workspace).values())
    rows = [(one, view) for one in pictures for view in ("full", "tile_2_0_0")]
    # Of picture n, the whole one is (n, 1) and its tile (0, -1).
    vectors = [(int(one.image_id, 16), 1) if view == "full" else (0, -1) for one, view in rows]
    columns = {
        "image_id": [one.image_id for one, _ in rows],
        "sha256": [one.sha256 for one, _ in rows],
        "view": [view for _, view in rows],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(vectors, np.float16).ravel()), 2),
        "norm": pa.nulls(len(rows), pa.float32()),
    }
    write_parquet(folder / "shard-0003.parquet", pa.table(columns, schema=schema.embeddings_schema(2)))
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = make_workspace(tmp_path / "ws")
    rows = made.read(schema.DOWNLOADS).to_pylist()
    made.write(schema.DOWNLOADS, [row | {"sha256": row["image_id"] * 4} for row in rows])
    return made


class TestFacts:
    def test_every_column_says_what_the_tables_and_logs_say(self, workspace: Workspace) -> None:
        add_later_tables(workspace)
        pictures, columns = read_facts(workspace)
        assert list(pictures) == ID[:7]
        assert set(columns) == {fact.name for fact in FACTS}
        assert columns["duplicate_group"] == {ID[0]: ID[2], ID[2]: ID[2], ID[3]: ID[2]}
        assert columns["duplicate_group_size"] == {ID[0]: 3, ID[2]: 3, ID[3]: 3}
        assert columns["quality_flags"] == {ID[3]: ["blur", "dark"]}
        assert columns["gold_answer"] == {ID[4]: "in"}
        # A person said that there is no dog.
        assert (columns["labels_human"], columns["labels_machine"]) == ({ID[1]: ["Tree"]}, {ID[1]: ["/m/3"]})
        assert columns["verdict"][ID[1]] == "disputed"
        assert columns["reason"] == {ID[6]: "in_class"}
        assert columns["nearest_class"][ID[2]] == "great white shark, white shark"
        assert len(columns["shown_classes"][ID[2]]) == len(shown_classes_of(2))

    def test_answers_are_those_that_stand_now_whatever_the_table_of_verdicts_says(
        self, workspace: Workspace
    ) -> None:
        add_later_tables(workspace)
        _, columns = read_facts(workspace)
        assert columns["answers"] == {
            ID[0]: ["ann: out", "ben: out"],
            ID[1]: ["ann: in (rooster)", "ben: out", "ben (dispute): difficult"],
        }
        assert columns["n_out"] == {ID[0]: 2, ID[1]: 1}
        assert columns["n_in"] == {ID[0]: 0, ID[1]: 1}
        # The adjudicator's answer is no vote.
        assert columns["n_difficult"] == {ID[0]: 0, ID[1]: 0}
        assert columns["disagreement"] == {ID[0]: 0.0, ID[1]: 1.0}
        assert (columns["notes"], columns["n_notes"]) == ({ID[1]: ["ann: <b>fin"]}, {ID[1]: 1})

    def test_columns_of_stages_to_come_are_empty(self, tmp_path: Path) -> None:
        workspace = make_workspace(tmp_path / "ws")
        workspace.path_of(schema.SCREEN).unlink()
        pictures, columns = read_facts(workspace)
        filled = {name for name, cells in columns.items() if cells}
        assert (len(pictures), filled) == (7, {"image_id"})

    def test_without_pictures_the_stage_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StageMissingError, match="candidates"):
            read_facts(Workspace(tmp_path))

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [("", None), ("o", None), ("oo", 0.0), ("oi", 1.0), ("ooi", 2 / 3), ("oid", 1.0), ("ooii", 4 / 6)],
    )
    def test_disagreement_is_the_share_of_pairs_that_differ(self, answers: str, expected: float | None) -> None:
        assert disagreement(answers) == pytest.approx(expected)

    def test_newest_manifest_is_by_number_and_not_by_letter(self) -> None:
        folders = [Path(name) for name in ("a-b-1.9.0", "a-b-1.10.0", "c-0.1.0", "a-b-1.2.10")]
        assert newest_manifests(folders) == [Path("a-b-1.10.0"), Path("c-0.1.0")]


class TestVectors:
    def test_whole_pictures_have_one_and_a_changed_picture_has_none(self, workspace: Workspace) -> None:
        add_embeddings(workspace)
        pictures = stored_pictures(workspace)
        changed = pictures | {ID[2]: replace(pictures[ID[2]], sha256="other")}
        store = find_vectors(workspace)
        assert store is not None
        vectors = store.read(changed)
        assert {image_id: vector.tolist() for image_id, vector in vectors.items()} == {
            ID[n]: [n, 1] for n in (0, 1, 3, 4, 5, 6)
        }

    def test_clip_is_taken_unless_another_is_named(self, workspace: Workspace) -> None:
        assert find_vectors(workspace) is None
        add_embeddings(workspace, "0123", "classifier", "vit")
        clip = add_embeddings(workspace, "4567")
        found, named = find_vectors(workspace), find_vectors(workspace, "vit")
        assert found is not None
        assert found.folder == clip
        assert named is not None
        assert named.folder.name == "0123"

    def test_two_of_clip_must_be_told_apart(self, workspace: Workspace) -> None:
        add_embeddings(workspace, "0123")
        add_embeddings(workspace, "4567", model="ViT-L-14")
        with pytest.raises(InputError, match=r"one of: 0123 \(ViT-B-32\), 4567 \(ViT-L-14\); found none given"):
            find_vectors(workspace)
        with pytest.raises(InputError, match="found resnet"):
            find_vectors(workspace, "resnet")


@pytest.fixture
def policy(tmp_path: Path) -> CuratorPolicy:
    return CuratorPolicy((HOST,), DATASET, "", (tmp_path,), {new_token(): ".curator"}, DATASET_ID)


def stage(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_cls": f"fiftyone.core.stages.{name}", "kwargs": [[key, value] for key, value in arguments.items()]}


SAMPLES = (
    "query paginateSamplesQuery($dataset: String!, $view: BSONArray!, $extended: BSON, $filters: BSON) {"
    " samples(dataset: $dataset, view: $view, extendedStages: $extended, filters: $filters) { __typename } }"
)
SET_VIEW = (
    "mutation setViewMutation($dataset: String!, $view: BSONArray) {"
    ' setView(subscription: "s", session: null, datasetName: $dataset, view: $view) }'
)
BAD_STAGES = [
    stage("Mongo", pipeline=[{"$out": "samples"}]),
    stage("ToPatches", field="x"),
    stage("Match", filter={"$where": "while (true) {}"}),
    stage("Match", filter={"$expr": {"$function": {"body": "f", "args": [], "lang": "js"}}}),
    {"_cls": "subprocess.Popen", "kwargs": [["args", ["id"]]]},
    {"_cls": ["fiftyone.core.stages.Match"], "kwargs": []},
]


class TestPolicy:
    def ask(self, policy: CuratorPolicy, query: str, **variables: Any) -> Any:
        body = {"query": query, "variables": {"dataset": DATASET, "view": []} | variables}
        return policy.checked_body("/graphql", json.dumps(body).encode(), (".curator",)).forwarded

    @pytest.mark.parametrize(
        "allowed",
        [
            stage("Match", filter={"$expr": {"$gt": ["$risk", 0.5]}}),
            stage("SortBy", field_or_expr="risk", reverse=True),
            stage("SortBySimilarity", query=["0" * 24], k=25, brain_key="similar"),
            stage("Select", sample_ids=["0" * 24]),
        ],
    )
    @pytest.mark.parametrize("query", [SAMPLES, SET_VIEW])
    def test_views_that_choose_and_order_pass_unchanged(
        self, policy: CuratorPolicy, query: str, allowed: dict[str, Any]
    ) -> None:
        assert self.ask(policy, query, view=[allowed])["variables"]["view"] == [allowed]

    @pytest.mark.parametrize("refused", BAD_STAGES)
    @pytest.mark.parametrize("query", [SAMPLES, SET_VIEW])
    def test_any_other_class_and_any_program_is_refused(
        self, policy: CuratorPolicy, query: str, refused: dict[str, Any]
    ) -> None:
        with pytest.raises(Refusal, match="curators may not ask for"):
            self.ask(policy, query, view=[refused])
        with pytest.raises(Refusal, match="curators may not ask for"):
            policy.checked_body(
                "/values", json.dumps({"dataset": DATASET, "view": [refused]}).encode(), ".curator"
            )

    def test_stages_given_as_keys_are_looked_at_too(self, policy: CuratorPolicy) -> None:
        similar = {"fiftyone.core.stages.SortBySimilarity": {"query": "0" * 24, "k": 25}}
        assert self.ask(policy, SAMPLES, extended=similar)["variables"]["extended"] == similar
        for name in ("fiftyone.core.stages.Mongo", "subprocess.Popen", "os.path.join"):
            with pytest.raises(Refusal, match=re.escape(name)):
                self.ask(policy, SAMPLES, extended={name: {}})

    def test_a_class_in_the_text_of_a_query_is_refused(self, policy: CuratorPolicy) -> None:
        stages = '[{_cls: "fiftyone.core.stages.Mongo"}]'
        literal = f'{{ samples(dataset: "{DATASET}", view: {stages}) {{ __typename }} }}'
        with pytest.raises(Refusal, match="views of their own making"):
            self.ask(policy, literal)

    def test_search_that_would_write_a_field_is_refused(self) -> None:
        plain = stage("SortBySimilarity", query=["a"], dist_field=None)
        assert curator_objection([plain]) is None
        assert curator_objection([stage("SortBySimilarity", query=["a"], dist_field="verdict")])
        as_key = {"fiftyone.core.stages.SortBySimilarity": {"query": ["a"], "dist_field": "verdict"}}
        assert curator_objection(as_key)

    @pytest.mark.parametrize("name", ["setDataset", "addStage", "deleteDataset", "setSomething"])
    def test_other_mutations_are_refused(self, policy: CuratorPolicy, name: str) -> None:
        with pytest.raises(Refusal, match=f"curators may not change {name}"):
            self.ask(policy, f'mutation {{ {name}(subscription: "s", name: "{DATASET}") }}')

    @pytest.mark.parametrize("query", [SAMPLES, SET_VIEW])
    def test_another_dataset_is_refused(self, policy: CuratorPolicy, query: str) -> None:
        with pytest.raises(Refusal, match="only the dataset that is served"):
            self.ask(policy, query, dataset="theirs")

    def test_another_dataset_in_an_input_object_is_refused(self, policy: CuratorPolicy) -> None:
        query = "query q($form: AggregationForm!) { aggregations(form: $form) { __typename } }"
        form = {"dataset": DATASET, "paths": ["risk"], "view": []}
        assert self.ask(policy, query, form=form)["variables"]["form"] == form
        with pytest.raises(Refusal, match="only the dataset that is served"):
            self.ask(policy, query, form=form | {"dataset": "theirs"})

    def test_whatever_dataset_a_search_names_it_is_ours(self, policy: CuratorPolicy) -> None:
        body = {"dataset": "theirs", "datasetName": "theirs", "datasetId": "theirs", "view": []}
        forwarded = policy.checked_body("/embeddings/v2/masks", json.dumps(body).encode(), (".curator",)).forwarded
        assert forwarded == {"dataset": DATASET, "datasetName": DATASET, "datasetId": DATASET_ID, "view": []}

    @pytest.mark.parametrize(
        "operator",
        [
            "list_files", "download_file", "delete_selected_samples", "edit_field_values", "create_index",
            "clone_selected_samples", "delete_brain_run",
        ],
    )  # fmt: skip
    def test_operators_that_read_the_disk_or_write_samples_are_refused(
        self, policy: CuratorPolicy, operator: str
    ) -> None:
        body = {"operator_uri": f"@voxel51/operators/{operator}", "params": {"path": "/etc"}}
        with pytest.raises(Refusal, match="curators may not run"):
            policy.checked_body("/operators/execute", json.dumps(body).encode(), (".curator",))

    @pytest.mark.parametrize("path", ["/tag", "/geo", "/event", "/operators/execute/generator", "/screenshot/x"])
    def test_what_writes_or_is_not_needed_is_no_path(self, policy: CuratorPolicy, path: str) -> None:
        with pytest.raises(Refusal, match="may not POST"):
            policy.checked_target("POST", path, b"")

    def test_samples_are_not_patched_and_no_foreign_file_is_served(self, policy: CuratorPolicy) -> None:
        with pytest.raises(Refusal) as refused:
            policy.checked_target("PATCH", f"/dataset/{DATASET_ID}/sample/1", b"")
        assert refused.value.status == 405
        with pytest.raises(Refusal, match="no such picture"):
            policy.checked_target("GET", "/media", b"filepath=/etc/passwd")


class TestRefusals:
    def test_second_curator_of_a_workspace_is_told_so(self, workspace: Workspace) -> None:
        folder = workspace.root / "fiftyone" / ".curator"
        folder.mkdir(parents=True)
        with (
            filelock.FileLock(folder / ".lock"),
            pytest.raises(WorkspaceLockedError, match="another process serves this workspace to a curator"),
        ):
            browse(workspace)

    def test_map_of_another_kind_is_refused_and_a_missing_library_named(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(InputError, match="--map: expected one of"):
            browse(workspace, map_method="tsne")
        with pytest.raises(ToolMissingError, match="pip install umap-learn"):
            browse(workspace, map_method="umap")


class Browsing:
    """`cli.py browse`, and requests to it with the cookie of its link."""

    def __init__(self, workspace: Workspace) -> None:
        command = [sys.executable, str(REPOSITORY / "cli.py"), "browse", "--workspace", str(workspace.root)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = StandardError(self.process).wait_for("Ctrl-C ends")
        (self.link,) = re.findall(r"^curator: open (\S+)", said, re.MULTILINE)
        self.base = self.link.partition("/login")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with self._opener.open(self.link) as page:
            self.dataset = page.url.rpartition("/")[2]

    def __enter__(self) -> "Browsing":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=HANGS_S)

    def graphql(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": {"name": self.dataset} | variables}).encode()
        headers = {"origin": self.base, "content-type": "application/json"}
        with self._opener.open(urllib.request.Request(f"{self.base}/graphql", body, headers)) as reply:
            content = json.load(reply)
        assert "errors" not in content, content
        return content["data"]

    def samples(self, view: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        query = (
            "query q($name: String!, $view: BSONArray!) { samples(dataset: $name, view: $view, first: 50)"
            " { ... on SampleItemStrConnection { edges { node { ... on ImageSample { sample } } } } } }"
        )
        found = self.graphql(query, view=view or [])["samples"]["edges"]
        return [edge["node"]["sample"] for edge in found]

    def saved_views(self) -> set[str]:
        query = "query q($name: String!) { savedViews(datasetName: $name) { name } }"
        return {view["name"] for view in self.graphql(query)["savedViews"]}


class TestApp:
    pytestmark = needs_app

    @pytest.fixture
    def page(self) -> Iterator[Any]:
        sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS))
            yield browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            browser.close()

    def test_grid_views_map_and_search_work_and_follow_the_workspace(
        self, workspace: Workspace, page: Any
    ) -> None:
        add_later_tables(workspace)
        add_embeddings(workspace)
        before = log_path(workspace, "ann").read_bytes()
        with Browsing(workspace) as served:
            self.look_at_the_grid(served, page)
            by_id = {sample["image_id"]: sample for sample in served.samples()}
            assert by_id[ID[1]]["answers"] == ["ann: in (rooster)", "ben: out", "ben (dispute): difficult"]
            assert by_id[ID[2]]["duplicate_group"] == ID[2]
            # Vectors are (n, 1): nearest in angle to that of 6 are those of 6, 5 and 4. Of few samples FiftyOne
            # finds the nearest without ordering them.
            nearest = stage("SortBySimilarity", query=by_id[ID[6]]["_id"], k=3, brain_key="similar")
            assert {sample["image_id"] for sample in served.samples([nearest])} == {ID[6], ID[5], ID[4]}
            save = (
                'mutation m($name: String!, $view: BSONArray!) { createSavedView(subscription: "s", session: null,'
                ' datasetName: $name, viewName: "mine", viewStages: $view, form: {}) { name } }'
            )
            chosen = stage("Select", sample_ids=[by_id[ID[5]]["_id"]])
            assert served.graphql(save, view=[chosen])["createSavedView"] == {"name": "mine"}
        assert log_path(workspace, "ann").read_bytes() == before
        with open_log(workspace, "cem") as log:
            log.append(decision("c1", ID[0], "difficult"))
        with Browsing(workspace) as served:
            again = {sample["image_id"]: sample for sample in served.samples()}
            assert again[ID[0]]["answers"] == ["ann: out", "ben: out", "cem: difficult"]
            assert again[ID[0]]["disagreement"] == pytest.approx(2 / 3)
            # Still the same samples, so that a view that names some goes on showing them.
            assert again[ID[5]]["_id"] == by_id[ID[5]]["_id"]
            assert {"mine", "disputed", "duplicate groups", "controls"} <= served.saved_views()

    def look_at_the_grid(self, served: Browsing, page: Any) -> None:
        refused: list[str] = []
        page.on("response", lambda reply: refused.append(reply.url) if reply.status >= 400 else None)
        page.goto(served.link)
        page.wait_for_selector("[data-cy=looker]")
        assert page.locator("[data-cy=looker]").count() == 7
        groups = ["PICTURE", "SCREEN", "DUPLICATES", "ANNOTATION", "MANIFEST"]
        shown = [page.locator(f"[data-cy=sidebar-group-{name}]").count() for name in groups]
        assert shown == [1] * len(groups)
        page.goto(f"{served.base}/datasets/{served.dataset}?view=disputed")
        page.wait_for_selector("text=2 samples")
        page.click("[data-cy=new-panel-btn]")
        page.click("[data-cy=new-panel-option-Embeddings]")
        page.get_by_text("map", exact=True).click()
        page.wait_for_selector("text=PCA")
        assert refused == []
