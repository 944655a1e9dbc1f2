"""The quickstart notebook: kept without outputs, and it runs from the first cell to the last, offline."""

import os
import re
import subprocess
import sys

import pytest

from manifests.workspace import Workspace
from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "quickstart.ipynb"
# What the kernel may reach: whoever connects elsewhere than to this machine fails.
GUARD = """
import socket
_connect = socket.socket.connect


def _connect_here(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(("127.", "::1")):
        raise AssertionError(f"the notebook connects to {address}")
    return _connect(self, address)


socket.socket.connect = _connect_here
"""


@pytest.fixture(scope="module")
def nbformat():
    pytest.importorskip("ipykernel", reason="the documentation's tools are absent: pip install '.[docs]'")
    return pytest.importorskip("nbformat")


def test_the_notebook_is_kept_without_outputs(nbformat):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert not {"widgets", "papermill"} & notebook.metadata.keys()


def test_the_notebook_goes_from_metadata_to_a_certified_set_and_scores(nbformat, tmp_path):
    guarded = nbformat.read(NOTEBOOK, as_version=4)
    guarded.cells.insert(0, nbformat.v4.new_code_cell(GUARD, id="guard"))
    nbformat.write(guarded, tmp_path / "guarded.ipynb")
    # A process of its own, as Jupyter's loops warn in ours.
    command = [sys.executable, "-m", "jupyter", "execute", "--timeout=600", "--output=done", "guarded.ipynb"]
    environment = {**os.environ, "FIFTYONE_DO_NOT_TRACK": "1", "TMPDIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr[-4000:]
    done = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    said = "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", ()))
    pictures = [
        one for cell in done.cells for one in cell.get("outputs", ()) if "image/png" in one.get("data", {})
    ]
    assert len(pictures) == 4

    (root,) = tmp_path.glob("openimage-o-*/workspace")
    workspace = Workspace(root)
    versions = sorted(path.parent.name for path in workspace.manifests_dir.glob("*/manifest.json"))
    certified = re.search(r"^(quickstart-\d+\.\d+\.1) ", said, re.MULTILINE)[1]
    assert certified == versions[-1]
    bound = float(re.search(r"at most ([\d.]+)% in-distribution", said)[1])
    assert 0 < bound <= 5
    logs = sorted(path.stem for path in workspace.decisions_dir.glob("*.jsonl"))
    assert logs[-2:] == ["simulated-careful-1", "simulated-careful-2"]
    assert all(name.startswith("simulated-") for name in logs)
    assert (workspace.scores_dir / "tiny" / "results.csv").is_file()
    assert "frozen" in said
