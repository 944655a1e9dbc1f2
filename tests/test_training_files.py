"""What both trainings ask before they go on, and the files that they keep of their epochs."""

import pytest

from manifests import training_files
from manifests.errors import InputError, ModelError
from manifests.training_files import EpochFiles, check_finite_loss, check_same_settings

SETTINGS = {"recipe": {"seed": 0, "loss": "mcf"}, "amp": False}


def files_in(folder, drawn):
    def draw(history, path):
        drawn.append((list(history), path))

    return EpochFiles(folder, lambda epoch: {"epoch": epoch, "loss": 1 / epoch, "wfc": None}, draw)


def test_equal_settings_are_gone_on_with_whatever_their_order(tmp_path):
    check_same_settings(tmp_path, {"amp": False, "recipe": {"loss": "mcf", "seed": 0}}, SETTINGS, instead="-")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {**SETTINGS, "recipe": {"seed": 1, "loss": "mcf"}},
            r"state: a training with another recipe seed \(1, now 0\)",
        ),
        ({**SETTINGS, "data": "x"}, r"a training with another data \(x, now None\)"),
        ({"amp": False}, r"a training with another recipe seed \(None, now 0\); give another name"),
    ],
)
def test_the_first_setting_that_differs_is_named_with_both_values(tmp_path, found, said):
    with pytest.raises(InputError, match=said):
        check_same_settings(tmp_path / "state", found, SETTINGS, instead="give another name")


def test_a_plan_compares_what_it_knows_and_nothing_else(tmp_path):
    check_same_settings(tmp_path, {**SETTINGS, "data": "x"}, {"recipe": {"seed": 0}}, instead="-", is_plan=True)
    with pytest.raises(InputError, match=r"another recipe seed \(0, now 2\)"):
        check_same_settings(tmp_path, SETTINGS, {"recipe": {"seed": 2}}, instead="-", is_plan=True)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_ends_a_training_and_epochs_are_told_from_one(loss):
    check_finite_loss(1e30, 2)
    with pytest.raises(
        ModelError, match=f"the loss of epoch 3 is {loss}: the training diverged; lower the learning"
    ):
        check_finite_loss(loss, 2)


def test_the_table_holds_every_epoch_in_full_and_what_is_not_defined_is_empty(tmp_path):
    files = files_in(tmp_path, [])
    files.after_epoch([1])
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,wfc\n1,1.0,\n"
    files.at_end([1, 3])
    assert (tmp_path / "history.csv").read_bytes() == b"epoch,loss,wfc\n1,1.0,\n3,0.3333333333333333,\n"


def test_the_plot_is_drawn_when_the_last_one_is_old_and_at_the_end(tmp_path, monkeypatch):
    now, drawn = [100.0], []
    monkeypatch.setattr(training_files.time, "monotonic", lambda: now[0])
    files = files_in(tmp_path, drawn)
    for n_epochs, at in enumerate((120, 131, 150, 162), start=1):
        now[0] = at
        files.after_epoch(list(range(1, n_epochs + 1)))
    files.at_end([1, 2, 3, 4])
    assert drawn == [(history, tmp_path / "curves.png") for history in ([1, 2], [1, 2, 3, 4], [1, 2, 3, 4])]
