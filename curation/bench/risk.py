"""``bench risk``: what screening flags, loses and shows on pictures of known truth, with tiles and without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.bench.pasted import AREA_SHARES, read_truth_rows
from curation.embedding_store import EmbeddedImage, EmbeddingStore
from curation.screening.calibrate import N_FOLDS
from curation.screening.gather import gather, number_names
from curation.screening.operating_point import (
    auroc,
    drop_bound,
    expected_calibration_error,
    reliability,
    share_above,
)
from curation.screening.risk import fit_risk, unseen_risks
from curation.screening.sources import ClassSource
from curation.screening.truth import fold_of, is_held_out
from manifests.proportions import Share, counted_share
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace

MAX_LOST = (0.005, 0.01, 0.05)
N_SPLITS = 20
POPULATIONS = ("whole", *(f"pasted {area_share:.0%}" for area_share in AREA_SHARES))


class WholeViews(EmbeddingStore):
    """A store of which only the whole pictures are seen."""

    def read_shard(self, shard: int) -> dict[str, EmbeddedImage]:
        """Return the images of one shard with their first view alone."""
        return {
            image_id: replace(
                image, views=image.views[:1], embeddings=image.embeddings[:1],
                norms=None if image.norms is None else image.norms[:1],
            )
            for image_id, image in super().read_shard(shard).items()
        }  # fmt: skip


@dataclass(frozen=True)
class RiskFigures:
    """What one kind of views achieves; of populations in the order of `POPULATIONS`, held-out pictures only.

    Attributes
    ----------
    views : str
        ``whole`` or ``whole and tiles``.
    aurocs : tuple of float
        Of each population against `out`.
    flagged : tuple of tuple of Share
        Of each population, per goal of `MAX_LOST`: above a bound chosen on the fit half.
    lost : tuple of Share
        Of `out`, per goal.
    shown : tuple of Share
        Of each population, pictures with their class among those shown.
    calibration_error : float
        Of `in` and `out`.
    many_splits : tuple of float
        Over `N_SPLITS` splits of `in` and `out`, the mean AUROC, then per goal the mean shares flagged and lost.
    """

    views: str
    aurocs: tuple[float, ...]
    flagged: tuple[tuple[Share, ...], ...]
    lost: tuple[Share, ...]
    shown: tuple[Share, ...]
    calibration_error: float
    many_splits: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values; `max_lost` is the goal that a bound was chosen for."""
        mean_auroc, *means = self.many_splits
        populations = zip(POPULATIONS, self.aurocs, self.flagged, self.shown, strict=True)
        return {
            "views": self.views,
            "populations": [
                {"population": name, "auroc": auroc, "flagged": _by_goal(flagged), "shown": shown.as_json()}
                for name, auroc, flagged, shown in populations
            ],
            "lost": _by_goal(self.lost),
            "calibration_error": self.calibration_error,
            "mean_of_splits": {
                "n_splits": N_SPLITS,
                "auroc": mean_auroc,
                "goals": [
                    {"max_lost": goal, "flagged": flagged, "lost": lost}
                    for goal, flagged, lost in zip(MAX_LOST, means[::2], means[1::2], strict=True)
                ],
            },
        }


def _by_goal(shares: Sequence[Share]) -> list[dict[str, Any]]:
    return [{"max_lost": goal, **share.as_json()} for goal, share in zip(MAX_LOST, shares, strict=True)]


def measure_risk(
    workspace: Workspace, sources: Sequence[ClassSource], truth_path: Path, seed: int
) -> list[RiskFigures]:
    """Return the figures of the whole view alone, and of all views.

    Parameters
    ----------
    workspace : Workspace
        As `make_workspace` filled it, with embeddings.
    sources : sequence of ClassSource
        Of all its pictures.
    truth_path : Path
        Its ``truth.csv``.
    seed : int
        Of the split, as `make_workspace` had it.
    """
    whole = [replace(one, store=WholeViews(one.store.folder, one.store.key)) for one in sources]
    truths = read_truth_rows(truth_path)
    return [
        _figures(views, workspace, chosen, truths, seed)
        for views, chosen in (("whole", whole), ("whole and tiles", list(sources)))
    ]


def _figures(
    views: str,
    workspace: Workspace,
    sources: Sequence[ClassSource],
    truths: Mapping[str, dict[str, str]],
    seed: int,
) -> RiskFigures:
    gathered = list(gather(sources, stored_pictures(workspace), None))
    image_ids = [image_id for block in gathered for image_id in block.image_ids]
    numbers = np.concatenate([block.numbers for block in gathered])
    shown = pa.chunked_array([block.shown["shown_classes"] for block in gathered]).to_pylist()
    truth = np.array([truths[image_id]["truth"] for image_id in image_ids])
    kind = np.array([truths[image_id]["kind"] for image_id in image_ids])
    is_shown = np.array([
        truths[image_id]["class_index"] in map(str, own) for image_id, own in zip(image_ids, shown, strict=True)
    ])  # fmt: skip
    held_out = np.array([is_held_out(image_id, seed) for image_id in image_ids])
    is_in, is_out = truth == "in", truth == "out"
    folds = np.array([fold_of(image_id, seed, N_FOLDS) for image_id in image_ids])
    risks, fit_out = _risks(sources, numbers, is_in, is_out, np.where(held_out, -1, folds))
    bounds = [drop_bound(fit_out, goal) for goal in MAX_LOST]
    own = [is_in & held_out, *(kind == population for population in POPULATIONS[1:])]
    out = risks[is_out & held_out]
    return RiskFigures(
        views,
        tuple(auroc(risks[which], out) for which in own),
        tuple(tuple(share_above(risks[which], bound) for bound in bounds) for which in own),
        tuple(share_above(out, bound) for bound in bounds),
        tuple(counted_share(int(is_shown[which].sum()), int(which.sum())) for which in own),
        expected_calibration_error(reliability(risks[is_in & held_out], out)),
        _many_splits(sources, numbers, is_in, is_out, image_ids),
    )


def _risks(
    sources: Sequence[ClassSource],
    numbers: npt.NDArray[np.float64],
    is_in: npt.NDArray[np.bool_],
    is_out: npt.NDArray[np.bool_],
    folds: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the risks of all pictures, and those of `out` pictures fitted on, by models that have not seen them.

    `folds` is -1 for pictures that are not fitted on.
    """
    own = (is_in | is_out) & (folds >= 0)
    names = number_names(sources, None)
    unseen = unseen_risks(names, numbers[own], is_in[own], folds[own])
    return fit_risk(names, numbers[own], is_in[own]).risks(numbers), unseen[is_out[own]]


def _many_splits(
    sources: Sequence[ClassSource],
    numbers: npt.NDArray[np.float64],
    is_in: npt.NDArray[np.bool_],
    is_out: npt.NDArray[np.bool_],
    image_ids: Sequence[str],
) -> tuple[float, ...]:
    """Return means over splits: at 0.5 % of a hundred pictures, one split says little."""
    rows = []
    for split_seed in range(N_SPLITS):
        held_out = np.array([is_held_out(image_id, split_seed) for image_id in image_ids])
        folds = np.array([fold_of(image_id, split_seed, N_FOLDS) for image_id in image_ids])
        risks, fit_out = _risks(sources, numbers, is_in, is_out, np.where(held_out, -1, folds))
        ins, outs = risks[is_in & held_out], risks[is_out & held_out]
        row = [auroc(ins, outs)]
        for goal in MAX_LOST:
            bound = drop_bound(fit_out, goal)
            row += [float((ins > bound).mean()), float((outs > bound).mean())]
        rows.append(row)
    return tuple(np.mean(rows, axis=0).tolist())


def risk_table(figures: Sequence[RiskFigures]) -> str:
    """Return the figures as a table for the terminal."""
    goals = "  ".join(f"{f'flagged, {goal:.1%} lost':>19}" for goal in MAX_LOST)
    lines = [f"{'views':<16}{'in-class':<12}{'n':>6}{'AUROC':>8}  {goals}  {'true class shown':>18}"]
    for one in figures:
        for place, population in enumerate(POPULATIONS):
            flagged = "  ".join(f"{share.value:>19.1%}" for share in one.flagged[place])
            shown = one.shown[place]
            lines.append(
                f"{one.views:<16}{population:<12}{shown.n_all:>6}{one.aurocs[place]:>8.4f}  {flagged}"
                f"  {shown.value:>18.1%}"
            )
        lost = "; ".join(f"goal {goal:.1%}: {share}" for goal, share in zip(MAX_LOST, one.lost, strict=True))
        lines.append(f"  out lost: {lost}")
        mean_auroc, *means = one.many_splits
        told = "; ".join(
            f"goal {goal:.1%}: {flagged:.1%} of in, {gone:.1%} of out"
            for goal, flagged, gone in zip(MAX_LOST, means[::2], means[1::2], strict=True)
        )
        lines.append(f"  expected calibration error {one.calibration_error:.3f}")
        lines.append(f"  mean of {N_SPLITS} splits: AUROC {mean_auroc:.4f}; {told}")
    return "\n".join(lines)
