import csv
import json

import numpy as np
import pytest
from PIL import Image

from curation.screening.calibrate import calibrate, fit_calibration
from curation.screening.calibration import Calibration
from curation.screening.gather import number_names
from curation.screening.plots.explain import explain
from curation.screening.screen import ScreenRules, screen_pictures
from curation.screening.truth import LabelledPicture, is_held_out, read_truth
from manifests import schema
from manifests.errors import InputError
from manifests.label_space import ClassName
from manifests.workspace import Workspace
from tests.picture_workspace import add_pictures, jpeg, scene
from tests.screen_world import add_store, noise_jpeg, screened, sources_of

N_PICTURES = 240
PROTOTYPES = np.eye(4, 12)


def truth_of(number):
    return "in" if number % 3 == 0 else "out"


def make_world(folder):
    """In-class pictures lie near a prototype, the others anywhere; every tenth is of unknown truth."""
    contents = {f"{number:04x}": noise_jpeg(number) for number in range(N_PICTURES)}
    workspace = add_pictures(Workspace(folder), contents)
    draws = np.random.default_rng(0)
    vectors = {}
    for number, image_id in enumerate(contents):
        vector = draws.normal(size=(2, 12))
        if truth_of(number) == "in":
            vector[0] = 2.2 * PROTOTYPES[number % 4] + 0.5 * vector[0]
        vectors[image_id] = vector
    add_store(workspace, vectors)
    rows = [(image_id, "mixed" if n % 10 == 9 else truth_of(n)) for n, image_id in enumerate(contents)]
    with (folder / "truth.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image_id", "truth"), *rows, ("elsewhere", "out")])
    return workspace


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    workspace = make_world(tmp_path_factory.mktemp("calibrated"))
    path = workspace.root / "calibration.json"
    classes, sources = sources_of(workspace, PROTOTYPES)
    summary = calibrate(workspace, classes, sources, workspace.root / "truth.csv", path, max_lost=0.05)
    return workspace, classes, sources, path, summary


def screen(calibrated, **rules):
    workspace, classes, sources, path, _ = calibrated
    return screen_pictures(workspace, classes, sources, ScreenRules(**rules), calibration_path=path)


def test_risk_is_that_of_a_logistic_fit_and_what_is_above_the_bound_is_dropped(calibrated):
    workspace, _, _, path, summary = calibrated
    assert summary.auroc > 0.9
    assert summary.n_fit + summary.n_held_out == N_PICTURES * 9 // 10
    assert (summary.n_absent, summary.n_other_words) == (1, N_PICTURES // 10)
    screen(calibrated, control_share=0.0)
    rows = screened(workspace)
    bound = summary.point.drop_above
    assert all((row["reason"] == "in_class") == (row["risk"] > bound) for row in rows.values())
    ids = [image_id for image_id in rows if is_held_out(image_id, 0) and int(image_id, 16) % 10 != 9]
    dropped = {image_id for image_id in ids if rows[image_id]["status"] == "dropped"}
    outs = {image_id for image_id in ids if truth_of(int(image_id, 16)) == "out"}
    assert (summary.point.lost.n_hits, summary.point.lost.n_all) == (len(dropped & outs), len(outs))
    assert (summary.point.flagged.n_hits, summary.point.flagged.n_all) == (
        len(dropped - outs), len(set(ids) - outs)
    )  # fmt: skip
    assert json.loads(path.read_text())["held_out"]["auroc"] == summary.auroc


def test_the_bound_is_chosen_on_risks_by_models_that_have_not_seen_the_picture(calibrated):
    calibration = Calibration.read(calibrated[3])
    screen(calibrated, control_share=0.0)
    rows = screened(calibrated[0])
    outs = [k for k in rows if truth_of(int(k, 16)) == "out" and int(k, 16) % 10 != 9 and not is_held_out(k, 0)]
    seen = np.sort([rows[k]["risk"] for k in outs])
    assert len(calibration.fit_out) == len(outs)
    # The model knows its own pictures better.
    assert calibration.fit_out.mean() > seen.mean()
    n_above = int(0.05 * (len(outs) + 1)) - 1
    assert calibrated[4].point.drop_above == pytest.approx(np.sort(calibration.fit_out)[::-1][n_above])


def test_copies_of_one_photograph_fall_into_one_half_and_count_once(tmp_path):
    """Forty photographs, six times each: in both halves they would be told apart by memory alone."""
    contents, vectors, rows = {}, {}, []
    draws = np.random.default_rng(0)
    for photo in range(40):
        vector = draws.normal(size=6)
        for copy in range(6):
            image_id = f"{photo:02x}{copy:02x}"
            contents[image_id] = jpeg(scene(photo), 60 + 5 * copy)
            vectors[image_id] = [vector]
            rows.append(f"{image_id},{'in' if photo % 2 else 'out'}")
    workspace = add_pictures(Workspace(tmp_path), contents)
    add_store(workspace, vectors)
    (tmp_path / "truth.csv").write_text("image_id,truth\n" + "\n".join([*rows, "0000x,out"]) + "\n")
    sources = sources_of(workspace, np.eye(6))
    summary = calibrate(workspace, *sources, tmp_path / "truth.csv", tmp_path / "c.json")
    assert (summary.n_fit + summary.n_held_out, summary.n_copies, summary.n_absent) == (40, 200, 1)
    assert summary.share_in == 0.5
    # One picture of each photograph counts, whichever half it is in; a copy with the other truth counts as well.
    (tmp_path / "truth.csv").write_text("image_id,truth\n" + "\n".join(rows).replace("0005,out", "0005,in") + "\n")
    again = calibrate(workspace, *sources, tmp_path / "truth.csv", tmp_path / "c.json")
    assert (again.n_fit + again.n_held_out, again.n_copies) == (41, 199)


def test_another_goal_moves_the_bound(calibrated):
    strict = screen(calibrated, max_lost=0.02).operating_point
    loose = screen(calibrated, max_lost=0.5).operating_point
    assert strict.drop_above > loose.drop_above
    assert strict.flagged.n_hits < loose.flagged.n_hits


def test_a_random_share_of_the_dropped_goes_to_annotators_unmarked(calibrated):
    workspace = calibrated[0]
    everyone = screen(calibrated, control_share=1.0).counts
    none = screen(calibrated, control_share=0.0).counts
    assert everyone["control"] == none["in_class"]
    assert "in_class" not in everyone
    some = screen(calibrated, control_share=0.5).counts
    assert 0.25 < some["control"] / none["in_class"] < 0.75
    controls = [row for row in screened(workspace).values() if row["is_control"]]
    assert all((row["status"], row["reason"]) == ("review", "in_class") for row in controls)
    other = screen(calibrated, control_share=0.5, seed=1)
    assert {row["image_id"] for row in controls} != {
        k for k, row in screened(workspace).items() if row["is_control"]
    }
    assert other.operating_point == screen(calibrated).operating_point


def test_a_second_calibration_and_a_round_trip_are_equal(calibrated, tmp_path):
    workspace, classes, sources, path, _ = calibrated
    calibrate(workspace, classes, sources, workspace.root / "truth.csv", tmp_path / "again.json", max_lost=0.05)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert (tmp_path / "again.png").read_bytes() == path.with_suffix(".png").read_bytes()
    Calibration.read(path).write(tmp_path / "copy.json")
    assert (tmp_path / "copy.json").read_bytes() == path.read_bytes()


def test_the_order_of_labelled_rows_changes_nothing(calibrated, tmp_path):
    workspace, classes, sources, path, _ = calibrated
    header, *rows = (workspace.root / "truth.csv").read_text().splitlines()
    (tmp_path / "shuffled.csv").write_text("\n".join([header, *reversed(rows)]) + "\n")
    calibrate(workspace, classes, sources, tmp_path / "shuffled.csv", tmp_path / "c.json", max_lost=0.05)
    assert (tmp_path / "c.json").read_bytes() == path.read_bytes()


def test_a_calibration_of_other_prototypes_is_refused(calibrated):
    workspace, _, _, path, _ = calibrated
    classes, sources = sources_of(workspace, PROTOTYPES[:, ::-1])
    with pytest.raises(InputError, match=r"--calibration: made for the sources .* run 'calibrate' with these"):
        screen_pictures(workspace, classes, sources, ScreenRules(), calibration_path=path)


def test_a_calibration_without_what_people_verified_says_that(calibrated):
    _, _, sources, path, _ = calibrated
    with pytest.raises(
        InputError, match=r"without what people verified, .*only now: has a class that people verified"
    ):
        Calibration.read(path).check_holds_for(sources, number_names(sources, {}))


def test_a_goal_without_a_calibration_is_refused(calibrated):
    workspace, classes, sources, _, _ = calibrated
    with pytest.raises(InputError, match="--max-lost: needs --calibration FILE"):
        screen_pictures(workspace, classes, sources, ScreenRules(max_lost=0.01))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("model"), "not what 'calibrate' writes"),
        (lambda content: content.update(version=1), "of version 1, expected 2: run 'calibrate' again"),
        (lambda content: content["model"]["means"].pop(), "damaged"),
        (lambda content: content["risks"]["fit_out"].append(1.5), "damaged"),
        (lambda content: content["model"].update(intercept=float("nan")), "damaged"),
    ],
)
def test_a_damaged_calibration_is_refused(calibrated, tmp_path, change, message):
    content = json.loads(calibrated[3].read_text())
    change(content)
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        Calibration.read(tmp_path / "c.json")


def test_a_calibration_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(InputError, match=r"--calibration .*none\.json: cannot be read"):
        Calibration.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,truth\na,in\n", "line 1: expected the columns image_id,truth"),
        ("image_id,truth\na,in\na,out\n", "line 3: a stands in more than one row"),
        ("image_id,truth,class_index\na,in,-4\n", "line 2: expected an image_id and a class_index or none"),
        ("image_id,truth\n,in\n", "line 2: expected an image_id"),
    ],
)
def test_a_malformed_truth_is_refused_with_its_line(tmp_path, content, message):
    (tmp_path / "truth.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_truth(tmp_path / "truth.csv")


def test_labels_of_one_truth_are_not_enough(calibrated, tmp_path):
    workspace, classes, sources, _, _ = calibrated
    (tmp_path / "truth.csv").write_text("image_id,truth\n0000,in\n0003,in\n0006,in\n")
    with pytest.raises(InputError, match=r"of its pictures here 3 are in and 0 out: label more pictures"):
        calibrate(workspace, classes, sources, tmp_path / "truth.csv", tmp_path / "c.json")
    # Of two pictures each half has one at most.
    (tmp_path / "truth.csv").write_text("image_id,truth\n0000,in\n0001,out\n")
    with pytest.raises(InputError, match=r"half holds \d in and \d out: label more pictures"):
        calibrate(workspace, classes, sources, tmp_path / "truth.csv", tmp_path / "c.json")
    (tmp_path / "truth.csv").write_text("image_id,truth\nelsewhere,in\n")
    with pytest.raises(InputError, match="none of its pictures has been downloaded"):
        calibrate(workspace, classes, sources, tmp_path / "truth.csv", tmp_path / "c.json")


def test_about_half_of_all_pictures_is_held_out_and_another_seed_holds_out_others():
    held_out = [[is_held_out(f"{number:016x}", seed) for number in range(2000)] for seed in (0, 1)]
    assert all(0.46 < np.mean(half) < 0.54 for half in held_out)
    assert 0.45 < np.mean(np.array(held_out[0]) == np.array(held_out[1])) < 0.55


def test_a_screened_picture_is_explained_in_a_picture(calibrated, tmp_path):
    workspace = calibrated[0]
    screen(calibrated)
    explain(workspace, "0003", tmp_path / "explained.png")
    with Image.open(tmp_path / "explained.png") as picture:
        assert picture.size == (1350, 780)
    explain(workspace, "0003", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "explained.png").read_bytes()
    with pytest.raises(InputError, match="--explain none: no such image"):
        explain(workspace, "none", tmp_path / "none.png")
    with pytest.raises(InputError, match=r"ends in \.png"):
        explain(workspace, "0003", tmp_path / "explained.jpg")


def test_people_s_classes_are_a_number_of_the_calibration(tmp_path):
    workspace = make_world(tmp_path)
    # Of half the in-class pictures somebody said what they show; here that is class 999 of ImageNet, toilet paper.
    said = [f"{number:04x}" for number in range(0, N_PICTURES, 6)]
    rows = [
        {"image_id": k, "label_mid": "/m/09gtd", "source": "human", "confidence": 1.0, "wnid": "n15075141"}
        for k in said
    ]
    workspace.write(schema.LABELS, rows)
    from curation.imagenet_classes import imagenet_classes

    classes: list[ClassName] = imagenet_classes()
    prototypes = np.zeros((1000, 12)) + np.eye(1000, 12) + 1e-3
    _, sources = sources_of(workspace, prototypes, classes)
    path = tmp_path / "calibration.json"
    calibrate(workspace, classes, sources, tmp_path / "truth.csv", path)
    model = Calibration.read(path).model
    assert model.names[-1] == "has a class that people verified"
    assert model.coefficients[-1] > 0


def test_where_no_picture_can_be_read_all_are_dropped_with_that_reason(tmp_path):
    workspace = add_pictures(Workspace(tmp_path), {f"{number:04x}": noise_jpeg(number) for number in range(3)})
    add_store(workspace, {"0000": np.eye(4)[:1]}, unreadable=["0000", "0001", "0002"])
    classes, sources = sources_of(workspace, np.eye(4))
    assert screen_pictures(workspace, classes, sources, ScreenRules()).counts == {"unreadable": 3}
    truth = {"0000": LabelledPicture("0000", True), "0001": LabelledPicture("0001", False)}
    with pytest.raises(InputError, match="--labelled: none of its pictures here could be read"):
        fit_calibration(workspace, sources, truth, None, max_lost=0.2, seed=0, original_of={})
