"""The stage `calibrate`: on labelled pictures, risk becomes a probability, and the bound to drop at is chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.labels import VerifiedClasses
from curation.screening.calibration import Calibration
from curation.screening.gather import gather, number_names
from curation.screening.operating_point import (
    OperatingPoint,
    auroc,
    drop_bound,
    expected_calibration_error,
    reliability,
)
from curation.screening.plots.calibration import write_calibration_plot
from curation.screening.risk import fit_risk
from curation.screening.screen import verified_of
from curation.screening.sources import ClassSource
from curation.screening.truth import LabelledPicture, is_held_out, read_truth
from manifests import schema
from manifests.errors import InputError
from manifests.label_space import ClassName
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace


@dataclass(frozen=True)
class CalibrateSummary:
    """What a run of `calibrate` found.

    Attributes
    ----------
    n_fit, n_held_out : int
        Labelled pictures in each half.
    n_absent, n_other_words : int
        Labelled pictures without embeddings here, and rows whose truth is neither ``in`` nor ``out``.
    auroc, expected_calibration_error : float
        Of the held-out half.
    point : OperatingPoint
        For the goal.
    plot_path : Path
        The picture of both.
    """

    n_fit: int
    n_held_out: int
    n_absent: int
    n_other_words: int
    auroc: float
    expected_calibration_error: float
    point: OperatingPoint
    plot_path: Path


def calibrate(
    workspace: Workspace,
    classes: Sequence[ClassName],
    sources: Sequence[ClassSource],
    labelled_path: Path,
    out_path: Path,
    *,
    max_lost: float = 0.005,
    seed: int = 0,
    announce: Callable[[str], None] = lambda line: None,
) -> CalibrateSummary:
    """Write a calibration and beside it its plot, and return the figures of the held-out half.

    Labelled pictures are split in two by a hash of their id: the risk is fitted and the bound chosen on one
    half, every figure taken on the other. The probability is that of pictures mixed of `in` and `out` as the
    labelled ones are.

    Parameters
    ----------
    workspace : Workspace
        With embeddings of the labelled pictures.
    classes, sources
        As `open_sources` returns them.
    labelled_path : Path
        As `read_truth` takes it.
    out_path : Path
        The calibration, ``.json``; the plot has the same name and ``.png``.
    max_lost : float
        The goal: largest share of truly OOD pictures that may be dropped.
    seed : int
        Of the split.
    announce : callable
        Told in one line what else is used.

    Raises
    ------
    InputError
        The labelled pictures are not what they should be, or one half lacks `in` or `out` pictures.
    """
    truth = read_truth(labelled_path)
    arguments = {"max_lost": max_lost, "seed": seed, "sources": [source.digest for source in sources]}
    inputs = [labelled_path, workspace.path_of(schema.DOWNLOADS), workspace.path_of(schema.LABELS)]
    inputs += [path for source in sources for path in source.store.paths()]
    with workspace.stage("calibrate", arguments, inputs) as record:
        verified = verified_of(workspace, classes, announce)
        calibration, n_by_half = fit_calibration(
            workspace, sources, truth.pictures, verified, max_lost=max_lost, seed=seed
        )
        calibration.write(out_path)
        plot_path = out_path.with_suffix(".png")
        write_calibration_plot(calibration, plot_path)
        n_fit, n_held_out = n_by_half
        n_absent = len(truth.pictures) - n_fit - n_held_out
        record.seed = seed
        record.counts = {
            "fit": n_fit, "held_out": n_held_out, "absent": n_absent, "other_words": truth.n_other_words.total()
        }  # fmt: skip
    held_out = calibration.held_out_in, calibration.held_out_out
    return CalibrateSummary(
        n_fit, n_held_out, n_absent, truth.n_other_words.total(), auroc(*held_out),
        expected_calibration_error(reliability(*held_out)), calibration.operating_point(), plot_path,
    )  # fmt: skip


def fit_calibration(
    workspace: Workspace,
    sources: Sequence[ClassSource],
    labelled: Mapping[str, LabelledPicture],
    verified: Mapping[str, VerifiedClasses] | None,
    *,
    max_lost: float,
    seed: int,
) -> tuple[Calibration, tuple[int, int]]:
    """Return the calibration of labelled pictures, and how many of them were fitted on and held out.

    Raises
    ------
    InputError
        As `calibrate`.
    """
    drop_bound(np.zeros(1, np.float32), max_lost)  # refuses a goal that is no share before anything is read
    pictures = {k: picture for k, picture in stored_pictures(workspace).items() if k in labelled}
    if not pictures:
        raise InputError("--labelled: none of its pictures has been downloaded to this workspace")
    gathered = list(gather(sources, pictures, verified))
    image_ids = [image_id for block in gathered for image_id in block.image_ids]
    numbers = np.concatenate([block.numbers for block in gathered])
    is_in = np.array([labelled[image_id].is_in for image_id in image_ids])
    held_out = np.array([is_held_out(image_id, seed) for image_id in image_ids])
    for half, which in (("fit", ~held_out), ("held-out", held_out)):
        n_in, n_out = int((is_in & which).sum()), int((~is_in & which).sum())
        if not n_in or not n_out:
            raise InputError(f"--labelled: the {half} half holds {n_in} in and {n_out} out: label more pictures")
    names = number_names(sources, verified)
    # Sorted by image id: sums must not depend on the order of shards.
    order = np.argsort(image_ids)
    own = order[~held_out[order]]
    model = fit_risk(names, numbers[own], is_in[own])
    risks = model.risks(numbers)
    calibration = Calibration(
        tuple(source.digest for source in sources), model, np.sort(risks[~held_out & ~is_in]),
        np.sort(risks[held_out & is_in]), np.sort(risks[held_out & ~is_in]), max_lost, seed,
    )  # fmt: skip
    return calibration, (int((~held_out).sum()), int(held_out.sum()))
