"""Small masks as one more number for risk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cli
from curation.screening.calibrate import calibrate, fit_calibration
from curation.screening.gather import gather, number_names
from curation.screening.screen import ScreenRules, screen_pictures
from curation.screening.small_masks import read_small_masks
from curation.screening.truth import LabelledPicture
from manifests import schema
from manifests.errors import InputError, StageMissingError
from manifests.label_space import ClassName, write_label_space
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures
from tests.screen_world import add_store, noise_jpeg, screened, sources_of

LOCALIZER = "00000000000000aa"
N_PICTURES = 60
NAMES = tuple(f"class {index}" for index in range(4))


def row(workspace: Workspace, image_id: str, class_index: int, area_share: float, peak: float) -> dict:
    sha256 = stored_pictures(workspace)[image_id].sha256
    return {
        "image_id": image_id, "class_index": class_index, "class_name": NAMES[class_index],
        "localizer": LOCALIZER, "sha256": sha256, "rotation_deg": 0, "area_share": area_share, "peak": peak,
    }  # fmt: skip


def show(workspace: Workspace, shown: list[int], names: tuple[str, ...]) -> None:
    """Leave what `screen` would, with the same classes beside all pictures."""
    screened_rows = [
        {"image_id": f"{number:04x}", "status": "review", "risk": 0.5, "shown_classes": shown,
         "shown_similarities": [0.5] * len(shown), "is_control": False}
        for number in range(N_PICTURES)
    ]  # fmt: skip
    workspace.write(schema.SCREEN, screened_rows)
    write_label_space(workspace.classes_path, [ClassName(index, name) for index, name in enumerate(names)])


def make_world(root: Path) -> Workspace:
    """Pictures of which CLIP tells nothing; every second holds a small object that a mask is sure of."""
    contents = {f"{number:04x}": noise_jpeg(number) for number in range(N_PICTURES)}
    workspace = add_pictures(Workspace(root), contents)
    show(workspace, [0, 1], NAMES)
    draws = np.random.default_rng(0)
    add_store(workspace, {image_id: draws.normal(size=(1, 4)) for image_id in contents})
    rows = []
    for number, image_id in enumerate(contents):
        rows.append(row(workspace, image_id, 0, 0.9, 0.99))
        rows.append(row(workspace, image_id, 1, 0.05, 0.9 - number / 1000) if number % 2 else
                    row(workspace, image_id, 1, 0.0, 0.4))  # fmt: skip
    workspace.write(schema.LOCALIZED, rows)
    return workspace


def test_the_number_is_the_highest_evidence_of_a_small_mask_and_0_without_one(tmp_path: Path) -> None:
    workspace = make_world(tmp_path)
    classes, sources = sources_of(workspace, np.eye(4))
    pictures = stored_pictures(workspace)
    masks = read_small_masks(workspace, classes)
    names = number_names(sources, None, masks)
    assert names[-1] == f"localizer {LOCALIZER}: highest evidence of a small mask"
    found = {
        image_id: numbers[-1]
        for block in gather(sources, pictures, None, masks)
        for image_id, numbers in zip(block.image_ids, block.numbers, strict=True)
    }
    assert found["0000"] == 0
    assert found["0003"] == pytest.approx(0.897)


def test_masks_tell_apart_what_the_sources_cannot(tmp_path: Path) -> None:
    workspace = make_world(tmp_path)
    classes, sources = sources_of(workspace, np.eye(4))
    truth = {f"{number:04x}": LabelledPicture(f"{number:04x}", bool(number % 2)) for number in range(N_PICTURES)}
    shared = {"max_lost": 0.2, "seed": 0, "original_of": {}}
    masks = read_small_masks(workspace, classes)
    with_masks, _ = fit_calibration(workspace, sources, truth, None, masks=masks, **shared)
    without, _ = fit_calibration(workspace, sources, truth, None, **shared)
    assert with_masks.held_out_in.min() > with_masks.held_out_out.max()
    assert without.held_out_in.min() < without.held_out_out.max()
    names = with_masks.model.names
    other_names = tuple(name.replace(LOCALIZER, "00000000000000bb") for name in names)
    path = tmp_path / "calibration.json"
    with_masks.write(path)
    screen_pictures(workspace, classes, sources, ScreenRules(has_masks=True), calibration_path=path)
    risks = {image_id: found["risk"] for image_id, found in screened(workspace).items()}
    assert min(risks[k] for k in risks if int(k, 16) % 2) > max(risks[k] for k in risks if not int(k, 16) % 2)
    with pytest.raises(InputError, match="--calibration: it was made with --masks: give --masks"):
        screen_pictures(workspace, classes, sources, ScreenRules(), calibration_path=path)
    without.write(path)
    said = "--masks: the calibration was made without --masks: leave it out, or run 'calibrate --masks'"
    with pytest.raises(InputError, match=said):
        screen_pictures(workspace, classes, sources, ScreenRules(has_masks=True), calibration_path=path)
    with pytest.raises(
        InputError, match=r"only in the calibration: localizer 0+bb: .*; only now: localizer 0+aa: "
    ):
        replace(with_masks, model=replace(with_masks.model, names=other_names)).check_holds_for(sources, names)


def test_masks_without_a_calibration_or_of_other_pictures_are_refused(tmp_path: Path) -> None:
    workspace = make_world(tmp_path)
    classes, sources = sources_of(workspace, np.eye(4))
    with pytest.raises(InputError, match="--masks: needs --calibration FILE"):
        screen_pictures(workspace, classes, sources, ScreenRules(has_masks=True))
    rows = workspace.read(schema.LOCALIZED).to_pylist()
    workspace.write(
        schema.LOCALIZED, [one | {"sha256": "0" * 64} if one["image_id"] == "0007" else one for one in rows]
    )
    masks = read_small_masks(workspace, classes)
    with pytest.raises(InputError, match="--masks: 0007 and maybe others have no masks"):
        list(gather(sources, stored_pictures(workspace), None, masks))
    workspace.path_of(schema.LOCALIZED).unlink()
    with pytest.raises(StageMissingError, match="run the stage 'localize'"):
        read_small_masks(workspace, classes)


def test_masks_are_taken_only_where_they_are_of_all_that_is_shown_by_its_name_now(tmp_path: Path) -> None:
    workspace = make_world(tmp_path)
    classes, _ = sources_of(workspace, np.eye(4))
    assert len(read_small_masks(workspace, classes).evidence) == N_PICTURES
    show(workspace, [0, 2], NAMES)
    with pytest.raises(InputError, match=r"--masks: 0000 .* stored and shown now: .* 'localize --dropped'"):
        read_small_masks(workspace, classes).of("0000")
    renamed = ("goldfish", *NAMES[1:])
    show(workspace, [0, 1], renamed)
    with pytest.raises(InputError, match="--masks: 0000 and maybe others have no masks"):
        read_small_masks(workspace, [ClassName(index, name) for index, name in enumerate(renamed)]).of("0000")


def test_masks_of_other_classes_than_those_compared_with_are_refused_with_what_to_run(tmp_path: Path) -> None:
    workspace = make_world(tmp_path)
    others, sources = sources_of(workspace, np.eye(4), [ClassName(index, f"other {index}") for index in range(4)])
    truth = tmp_path / "truth.csv"
    rows = [f"{number:04x},{'in' if number % 2 else 'out'}" for number in range(N_PICTURES)]
    truth.write_text("\n".join(["image_id,truth", *rows]) + "\n", encoding="utf-8")
    told = r"--masks: the masks are of the 4 classes of the last 'screen', .*classes\.csv, not of these 4: "
    with pytest.raises(InputError, match=told) as refused:
        calibrate(workspace, others, sources, truth, tmp_path / "calibration.json", has_masks=True)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "calibration.json").exists()


def test_screen_refuses_masks_without_a_calibration_before_it_opens_any_embeddings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An empty workspace: had embeddings been looked for, these would be what is missing.
    assert cli.run(["screen", "--masks", "--workspace", str(tmp_path)]) != 0
    assert "--masks: needs --calibration FILE" in capsys.readouterr().err
