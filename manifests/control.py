"""What the screen lost, by its control images: dropped as in-class, yet judged by annotators unmarked."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from manifests import schema
from manifests.proportions import Share, counted_share
from manifests.workspace import Workspace

_SETTLED = ("out", "in", "difficult")


@dataclass(frozen=True)
class LostShare:
    """Of all truly OOD images, the share that the screen dropped.

    Attributes
    ----------
    value : float or None
        None until all the others under review have a settled verdict: they come riskiest first, so that those
        judged early are more often in-class than those that still wait.
    low, high : float
        A 95 % interval, which holds at any time of the review.
    """

    value: float | None
    low: float
    high: float


@dataclass(frozen=True)
class ControlEstimate:
    """How many truly OOD pictures the screen dropped as in-class.

    Attributes
    ----------
    n_control, n_dropped, n_kept : int
        Images flagged as in-class that annotators got, those that they did not get, and the others under review.
    n_control_settled, n_control_out, n_kept_settled, n_kept_out : int
        Of the first and of the last, those with a settled verdict, and those that are ``out``.
    """

    n_control: int
    n_dropped: int
    n_kept: int
    n_control_settled: int
    n_control_out: int
    n_kept_settled: int
    n_kept_out: int

    def control_out(self, confidence: float = 0.95) -> Share:
        """Return the share of `out` among the control images with a settled verdict."""
        return counted_share(self.n_control_out, self.n_control_settled, confidence)

    def lost(self) -> LostShare | None:
        """Return the share that is lost, None before a control image is settled.

        Control images are drawn at random and stand at random places of the queue, so that those settled tell of
        all that is flagged. Of the others, nothing is claimed about those that wait but this: they are ``out`` at
        least as often as those settled, as their risk is lower. All of them may be, which gives the lower end.
        """
        if not self.n_control_settled:
            return None
        n_waiting = self.n_kept - self.n_kept_settled
        # The upper end then takes two bounds at once; at 1.25 % each, both hold in 97.5 % of cases.
        confidence = 0.975 if n_waiting else 0.95
        controls = self.control_out(confidence)
        kept = counted_share(self.n_kept_out, self.n_kept_settled, confidence)
        least_found = self.n_kept_out + kept.low * n_waiting
        value = None if n_waiting else self._lost_share(controls.value, self.n_kept_out)
        return LostShare(
            value,
            self._lost_share(controls.low, self.n_kept_out + n_waiting),
            self._lost_share(controls.high, least_found),
        )

    def _lost_share(self, share_out: float, n_found: float) -> float:
        """Return what is lost if `share_out` of the flagged are OOD, and so many of the others under review."""
        n_lost = share_out * self.n_dropped
        n_found += self.n_control_out + share_out * (self.n_control - self.n_control_settled)
        return n_lost / (n_lost + n_found) if n_lost else 0.0


def control_estimate(workspace: Workspace) -> ControlEstimate | None:
    """Return the estimate; None before `screen` and `consensus`, or where nothing was dropped as in-class."""
    if not (workspace.has(schema.SCREEN) and workspace.has(schema.VERDICTS)):
        return None
    verdicts = workspace.read(schema.VERDICTS)
    word_of = _by_image(verdicts, "verdict")
    if workspace.has(schema.GOLD):
        # Gold gets no verdict, as nobody votes on it: its answer is known.
        word_of |= _by_image(workspace.read(schema.GOLD), "answer")
    screened = workspace.read(schema.SCREEN).select(["image_id", "status", "reason", "is_control"]).to_pylist()
    flagged = [row for row in screened if row["reason"] == "in_class"]
    if not flagged:
        return None
    controls = [row["image_id"] for row in flagged if row["is_control"]]
    kept = [row["image_id"] for row in screened if row["status"] == "review" and not row["is_control"]]
    of_controls, of_kept = _words(word_of, controls), _words(word_of, kept)
    return ControlEstimate(
        len(controls), len(flagged) - len(controls), len(kept),
        of_controls.total(), of_controls["out"], of_kept.total(), of_kept["out"],
    )  # fmt: skip


def format_control(estimate: ControlEstimate) -> str:
    """Return the estimate as lines for the terminal."""
    settled = f"control images: {estimate.n_control_settled:,} of {estimate.n_control:,} with a settled verdict"
    lost = estimate.lost()
    if lost is None:
        return f"{settled}: what the screen lost is not known"
    head = f"{settled}; out are {estimate.control_out()}\n  so of all OOD images the screen lost"
    interval = f"{lost.low:.2%} to {lost.high:.2%}"
    flagged = f"{estimate.n_dropped:,} dropped as in-class"
    if lost.value is None:
        return (
            f"{head} {interval} (95 % interval), in {flagged}; one figure when all others are settled, "
            f"{estimate.n_kept_settled:,} of {estimate.n_kept:,} so far"
        )
    return f"{head} {lost.value:.2%} (95 % interval {interval}), in {flagged}"


def _by_image(table: pa.Table, column: str) -> dict[str, str]:
    return dict(zip(table.column("image_id").to_pylist(), table.column(column).to_pylist(), strict=True))


def _words(word_of: dict[str, str], image_ids: Iterable[str]) -> Counter[str]:
    """Return the settled verdicts of images, counted."""
    words = (word_of.get(image_id) for image_id in image_ids)
    return Counter(word for word in words if word in _SETTLED)
