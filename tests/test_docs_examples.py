"""The worked examples of the documentation: what its pages show is run, as they show it."""

import hashlib
import math
import re
import subprocess
from dataclasses import replace

import pytest
import torch

from docs.examples.aria2_list import write_aria2_list
from docs.examples.centred_energy import CentredEnergy
from manifests.errors import InputError
from manifests.exporters import export as exporting
from manifests.exporters.exported_folder import SUMS_NAME
from scoring.heads import Head
from scoring.methods.table import Method
from scoring.outputs import Outputs
from scoring.statistics.gather import Training
from tests.conftest import REPOSITORY
from tests.export_world import frozen_set, pictures
from tests.scorer_contract_world import ScorerContract
from tests.scoring_world import batches


def page_text(page):
    return (REPOSITORY / "docs" / page).read_text(encoding="utf-8")


def code_blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", page_text(page), re.MULTILINE | re.DOTALL)


def example_method():
    """The row of the page, evaluated."""
    (row,) = [block for block in code_blocks("extend/scorer.md") if block.startswith("Method(")]
    return eval(row.rstrip().rstrip(","), {"Method": Method, "CentredEnergy": CentredEnergy})


@pytest.mark.parametrize("promise", [name for name in vars(ScorerContract) if name.startswith("test_")])
def test_the_example_of_a_scorer_keeps_the_contract(promise):
    getattr(ScorerContract(), promise)(example_method())


def test_the_test_of_the_example_of_a_scorer_passes():
    names = {
        "Head": Head, "Training": Training, "CentredEnergy": CentredEnergy, "Outputs": Outputs, "torch": torch,
        "batches": batches, "math": math, "pytest": pytest,
    }  # fmt: skip
    run_the_test_of("extend/scorer.md", names)


@pytest.fixture
def with_aria2(monkeypatch):
    formats = {**exporting.FORMATS, "aria2": exporting.ExportFormat(write_aria2_list)}
    monkeypatch.setattr(exporting, "FORMATS", formats)


def test_the_test_of_the_example_of_an_exporter_passes(with_aria2, tmp_path):
    names = {"frozen_set": frozen_set, "export_manifest": exporting.export_manifest, "hashlib": hashlib,
             "pictures": pictures}  # fmt: skip
    run_the_test_of("extend/exporter.md", names, tmp_path)


def test_the_exporter_of_the_example_leaves_a_folder_that_can_be_checked(with_aria2, tmp_path):
    folder = exporting.export_manifest(frozen_set(tmp_path / "ws"), "aria2", tmp_path / "out", pictures=True)
    checked = subprocess.run(["sha256sum", "-c", "--quiet", SUMS_NAME], cwd=folder, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert (folder / "pictures" / "0000.jpg").is_file()
    assert '"aria2": ExportFormat(write_aria2_list)' in page_text("extend/exporter.md")


def test_the_exporter_of_the_example_refuses_an_image_without_address(with_aria2, tmp_path):
    export = frozen_set(tmp_path / "ws")
    bare = replace(export, records=[{**record, "url": None} for record in export.records])
    with pytest.raises(InputError, match="aria2: 0001 has no address"):
        exporting.export_manifest(bare, "aria2", tmp_path / "out")


def run_the_test_of(page, names, *arguments):
    (block,) = [block for block in code_blocks(page) if block.startswith("def test_")]
    exec(compile(block, page, "exec"), names)
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    test(*arguments)
