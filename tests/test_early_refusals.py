"""What a command can refuse it refuses before it makes prototypes, loads a model or reads pictures for hours."""

from pathlib import Path

import numpy as np
import pytest

import cli
from curation.duplicates import labelled_pairs
from curation.duplicates.fingerprints import FingerprintStore
from curation.localize import loading
from curation.prototypes import class_prototypes
from curation.screening import sources as screening_sources
from curation.screening.calibration import Calibration
from curation.screening.risk import RiskModel
from manifests import schema
from manifests.errors import InputError, StageMissingError
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures
from tests.screen_world import add_store, classes_csv, noise_jpeg

N_PICTURES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that is embedded, screened and localized, with what the commands below are given beside it."""
    root: Path = tmp_path_factory.mktemp("refused")
    image_ids = [f"{number:04x}" for number in range(N_PICTURES)]
    workspace = add_pictures(Workspace(root / "ws"), {name: noise_jpeg(int(name, 16)) for name in image_ids})
    add_store(workspace, {name: np.eye(4)[[0]] for name in image_ids})
    workspace.write(
        schema.SCREEN, [{"image_id": name, "status": "review", "is_control": False} for name in image_ids]
    )
    workspace.write(schema.LOCALIZED, [])
    classes_csv(root).rename(workspace.classes_path)
    classes_csv(root, ("lamp", "cup"))
    truths = {"truth": ("in", "out", "in", "out"), "one": ("out",) * N_PICTURES}
    for name, words in truths.items():
        rows = [f"{image_id},{word}" for image_id, word in zip(image_ids, words, strict=True)]
        (root / f"{name}.csv").write_text("\n".join(["image_id,truth", *rows]) + "\n")
    risks = np.array([0.25, 0.5], np.float32)
    model = RiskModel(("a",), (0.0,), (1.0,), (1.0,), 0.0)
    Calibration(("0" * 16,), model, risks, risks, risks, 0.05, 0).write(root / "calibration.json")
    (root / "pairs.csv").write_text("image_id,other,is_same\n0000,0001,0\n0000,gone.jpg,1\n")
    (root / "ids.txt").write_text("test/0000000000000000\n")
    (root / "empty").mkdir()
    return root


CASES = [
    ("calibrate --labelled gone.csv", "--labelled gone.csv: cannot be read as a CSV of labelled pictures"),
    ("calibrate --labelled truth.csv --max-lost 2", "--max-lost: expected a share of 0 to 1, found 2.0"),
    ("calibrate --labelled truth.csv --out plot.png", "--out plot.png: expected a file such as calibration.json"),
    ("calibrate --labelled one.csv", "--labelled: of its pictures here 0 are in and 4 out: label more pictures"),
    ("calibrate --labelled truth.csv --masks --classes names.csv", "not of these 2: give those as --classes"),
    ("screen --calibration gone.json", "--calibration gone.json: cannot be read"),
    ("screen --calibration calibration.json --max-lost 2", "--max-lost: expected a share of 0 to 1, found 2.0"),
    ("screen --calibration calibration.json --masks --classes names.csv", "calibration was made without --masks"),
    ("screen --drop-quality blur", "quality.parquet is not there: run the stage 'quality'"),
    ("duplicates --device gpu", "--device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
    ("leaks --against empty --device gpu", "--against empty: holds no picture that can be read"),
    ("leaks --against-list gone.txt", "gone.txt"),
    ("leaks --against-list ids.txt --embeddings 77", "--embeddings: expected the digest of one of"),
    ("leaks --pairs pairs.csv", "leaks: expected --against FOLDER or --against-list FILE"),
    ("leaks --pairs pairs.csv --against-list ids.txt --least-precision 2", "--least-precision: expected more"),
    ("localize --model RN50 --pretrained openai --checkpoint gone.bin", "--checkpoint gone.bin: no such file"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), CASES, ids=[words for words, _ in CASES])
def test_bad_input_is_refused_before_anything_slow(
    folder: Path,
    words: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def slow(*_: object, **__: object) -> None:
        pytest.fail("this takes minutes, and is not asked for")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(screening_sources, "open_sources", slow)
    monkeypatch.setattr(FingerprintStore, "update", slow)
    monkeypatch.setattr(labelled_pairs, "_thumbnail", slow)
    monkeypatch.setattr(loading, "load_encoder", slow)
    assert cli.run([*words.split(), "--workspace", "ws"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_a_store_that_is_not_complete_is_refused_before_the_prototypes_of_another(tmp_path: Path) -> None:
    workspace = add_pictures(Workspace(tmp_path), {"0000": noise_jpeg(0)})
    for name in ("net", "other"):
        store = add_store(workspace, {"0000": [[1, 0]]}, name=name)
    (store.folder / "unreadable.parquet").unlink()
    with pytest.raises(StageMissingError, match="run the stage 'embed' again, it goes on where it stopped"):
        screening_sources.open_sources(workspace, prototypes_of=lambda store: pytest.fail("made"))


def test_what_the_names_lack_is_said_before_the_exemplars_are_encoded(tmp_path: Path) -> None:
    workspace = add_pictures(Workspace(tmp_path / "ws"), {"0000": noise_jpeg(0)})
    store = add_store(workspace, {"0000": [[1, 0]]})
    (tmp_path / "exemplars" / "0").mkdir(parents=True)
    (tmp_path / "exemplars" / "0" / "a.jpg").write_bytes(noise_jpeg(1))
    for given, message in (
        ({"template_set": "plain"}, "--templates: expected openai or simple, found 'plain'"),
        ({"kind": "exemplars"}, r"1 classes have no picture \(dog\): add some"),
    ):
        with pytest.raises(InputError, match=message):
            class_prototypes(
                store, classes_csv(tmp_path, ("cat", "dog")), exemplars_dir=tmp_path / "exemplars",
                load=lambda key, device: pytest.fail("loaded"), **given,
            )  # fmt: skip
