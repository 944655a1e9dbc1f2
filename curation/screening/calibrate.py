"""The stage `calibrate`: on labelled pictures, risk becomes a probability, and the bound to drop at is chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.duplicates.find import find_duplicates
from curation.duplicates.rules import DuplicateRules
from curation.labels import VerifiedClasses
from curation.screening.calibration import Calibration
from curation.screening.gather import gather, number_names
from curation.screening.operating_point import (
    OperatingPoint,
    auroc,
    check_max_lost,
    expected_calibration_error,
    reliability,
)
from curation.screening.plots.calibration import write_calibration_plot
from curation.screening.risk import fit_risk, unseen_risks
from curation.screening.screen import verified_of
from curation.screening.small_masks import SmallMasks, check_masks, mask_files, read_small_masks
from curation.screening.sources import ClassSource
from curation.screening.truth import LabelledPicture, Truth, fold_of, is_held_out, read_truth
from manifests import schema
from manifests.errors import InputError
from manifests.label_space import ClassName
from manifests.stored_pictures import StoredPicture, stored_pictures
from manifests.workspace import Workspace

N_FOLDS = 10
"""Parts of the half that is fitted on: the risks that a bound is chosen on are of nine tenths of it."""


@dataclass(frozen=True)
class CalibrateSummary:
    """What a run of `calibrate` found.

    Attributes
    ----------
    n_fit, n_held_out : int
        Labelled pictures in each half.
    n_copies, n_absent, n_other_words : int
        Labelled pictures that are copies of others of the same truth, those without embeddings here, and rows
        whose truth is neither ``in`` nor ``out``: none of them counts.
    share_in : float
        Of the labelled pictures that count, those that are `in`: the probability holds for this mix.
    auroc, expected_calibration_error : float
        Of the held-out half.
    point : OperatingPoint
        For the goal.
    plot_path : Path
        The picture of both.
    """

    n_fit: int
    n_held_out: int
    n_copies: int
    n_absent: int
    n_other_words: int
    share_in: float
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
    has_masks: bool = False,
    announce: Callable[[str], None] = lambda line: None,
) -> CalibrateSummary:
    """Write a calibration and beside it its plot, and return the figures of the held-out half.

    Labelled pictures are split in two by a hash of their id: the risk is fitted and the bound chosen on one
    half, every figure taken on the other. Copies of one photograph are in one half, and count once for each
    truth. The bound is chosen on risks by models that have not seen the picture. The probability is that of
    pictures mixed of `in` and `out` as the labelled ones are.

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
    has_masks : bool
        Take the evidence of small masks for risk too, see `small_masks`; `screen` then needs it as well.
    announce : callable
        Told in one line what else is used.

    Raises
    ------
    InputError
        The labelled pictures are not what they should be, or one half lacks `in` or `out` pictures.
    """
    truth = check_inputs(workspace, classes, labelled_path, out_path, max_lost=max_lost, has_masks=has_masks)
    arguments = {
        "max_lost": max_lost, "seed": seed, "has_masks": has_masks,
        "sources": [source.digest for source in sources],
    }  # fmt: skip
    inputs = [labelled_path, workspace.path_of(schema.DOWNLOADS), workspace.path_of(schema.LABELS)]
    inputs += mask_files(workspace) if has_masks else []
    inputs += [path for source in sources for path in source.store.paths()]
    with workspace.stage("calibrate", arguments, inputs) as record:
        verified = verified_of(workspace, classes, announce)
        masks = read_small_masks(workspace, classes) if has_masks else None
        original_of = find_duplicates(workspace, DuplicateRules(), store=sources[0].store)
        calibration, counts = fit_calibration(
            workspace, sources, truth.pictures, verified, max_lost=max_lost, seed=seed, original_of=original_of,
            masks=masks,
        )  # fmt: skip
        calibration.write(out_path)
        plot_path = out_path.with_suffix(".png")
        write_calibration_plot(calibration, plot_path)
        n_absent = len(truth.pictures) - counts.n_fit - counts.n_held_out - counts.n_copies
        record.seed = seed
        record.counts = {
            "fit": counts.n_fit, "held_out": counts.n_held_out, "copies": counts.n_copies, "absent": n_absent,
            "other_words": truth.n_other_words.total(),
        }  # fmt: skip
    held_out = calibration.held_out_in, calibration.held_out_out
    return CalibrateSummary(
        counts.n_fit, counts.n_held_out, counts.n_copies, n_absent, truth.n_other_words.total(), counts.share_in,
        auroc(*held_out), expected_calibration_error(reliability(*held_out)), calibration.operating_point(),
        plot_path,
    )  # fmt: skip


def check_inputs(
    workspace: Workspace,
    classes: Sequence[ClassName],
    labelled_path: Path,
    out_path: Path,
    *,
    max_lost: float,
    has_masks: bool,
) -> Truth:
    """Return the truth after a look at all that is known before prototypes are made.

    Raises as `calibrate`, which calls it; the command does before the prototypes, which take minutes.
    """
    check_max_lost(max_lost)
    if out_path.suffix == ".png" or out_path.is_dir():
        raise InputError(
            f"--out {out_path}: expected a file such as calibration.json; its plot is the .png beside"
        )
    truth = read_truth(labelled_path)
    if has_masks:
        check_masks(workspace, classes)
    here = _labelled_here(workspace, truth.pictures)
    n_in = sum(truth.pictures[image_id].is_in for image_id in here)
    if n_in in (0, len(here)):
        raise InputError(
            f"--labelled: of its pictures here {n_in} are in and {len(here) - n_in} out: label more pictures"
        )
    return truth


def _labelled_here(workspace: Workspace, labelled: Mapping[str, LabelledPicture]) -> dict[str, StoredPicture]:
    pictures = {k: picture for k, picture in stored_pictures(workspace).items() if k in labelled}
    if not pictures:
        raise InputError("--labelled: none of its pictures has been downloaded to this workspace")
    return pictures


@dataclass(frozen=True)
class LabelledCounts:
    """Labelled pictures in each half, copies left out, and the share of `in` among the former."""

    n_fit: int
    n_held_out: int
    n_copies: int
    share_in: float


def fit_calibration(
    workspace: Workspace,
    sources: Sequence[ClassSource],
    labelled: Mapping[str, LabelledPicture],
    verified: Mapping[str, VerifiedClasses] | None,
    *,
    max_lost: float,
    seed: int,
    original_of: Mapping[str, str],
    masks: SmallMasks | None = None,
) -> tuple[Calibration, LabelledCounts]:
    """Return the calibration of labelled pictures, and how many of them were fitted on and held out.

    `original_of` has, for every copy of a photograph, the picture that stands for it.

    Raises
    ------
    InputError
        As `calibrate`.
    """
    pictures = _labelled_here(workspace, labelled)
    for image_id in pictures.keys() & (masks.unreadable if masks else {}):
        del pictures[image_id]
    gathered = list(gather(sources, pictures, verified, masks))
    if not gathered:
        raise InputError("--labelled: none of its pictures here could be read: label others, or look at 'status'")
    all_ids = [image_id for block in gathered for image_id in block.image_ids]
    # Sorted by image id: sums must not depend on the order of shards.
    place_of = {image_id: place for place, image_id in enumerate(all_ids)}
    order = [place_of[image_id] for image_id in _without_copies(all_ids, labelled, original_of)]
    image_ids = [all_ids[place] for place in order]
    numbers = np.concatenate([block.numbers for block in gathered])[order]
    originals = [original_of.get(image_id, image_id) for image_id in image_ids]
    is_in = np.array([labelled[image_id].is_in for image_id in image_ids])
    held_out = np.array([is_held_out(original, seed) for original in originals])
    _check_halves(is_in, held_out)
    fit = ~held_out
    folds = np.array([fold_of(original, seed, N_FOLDS) for original in originals])
    names = number_names(sources, verified, masks)
    model = fit_risk(names, numbers[fit], is_in[fit])
    unseen = unseen_risks(names, numbers[fit], is_in[fit], folds[fit])
    risks = model.risks(numbers)
    calibration = Calibration(
        tuple(source.digest for source in sources), model, np.sort(unseen[~is_in[fit]]),
        np.sort(risks[held_out & is_in]), np.sort(risks[held_out & ~is_in]), max_lost, seed,
    )  # fmt: skip
    n_copies = len(all_ids) - len(image_ids)
    return calibration, LabelledCounts(int(fit.sum()), int(held_out.sum()), n_copies, float(is_in.mean()))


def _without_copies(
    image_ids: Sequence[str], labelled: Mapping[str, LabelledPicture], original_of: Mapping[str, str]
) -> list[str]:
    """Return the ids, sorted, but of copies with equal truth the first alone."""
    chosen: dict[tuple[str, bool], str] = {}
    for image_id in sorted(image_ids):
        chosen.setdefault((original_of.get(image_id, image_id), labelled[image_id].is_in), image_id)
    return sorted(chosen.values())


def _check_halves(is_in: npt.NDArray[np.bool_], held_out: npt.NDArray[np.bool_]) -> None:
    for half, which in (("fit", ~held_out), ("held-out", held_out)):
        n_in, n_out = int((is_in & which).sum()), int((~is_in & which).sum())
        if not n_in or not n_out:
            raise InputError(f"--labelled: the {half} half holds {n_in} in and {n_out} out: label more pictures")
