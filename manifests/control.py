"""What the screen lost, by its control images: dropped as in-class, yet judged by annotators unmarked."""

from dataclasses import dataclass

import pyarrow.compute as pc

from manifests import schema
from manifests.proportions import Share, counted_share
from manifests.workspace import Workspace

_SETTLED = ("out", "in", "difficult")


@dataclass(frozen=True)
class ControlEstimate:
    """How many truly OOD pictures the screen dropped as in-class.

    Attributes
    ----------
    n_control, n_dropped : int
        Images flagged as in-class that annotators got, and that they did not get.
    out : Share
        Of the control images with a settled verdict, those that are ``out``.
    n_found_out : int
        Images with the verdict ``out``, control images among them.
    """

    n_control: int
    n_dropped: int
    out: Share
    n_found_out: int

    def lost_share(self, share_out: float) -> float:
        """Return the share of all truly OOD pictures that is lost, if `share_out` of the dropped are."""
        n_lost = share_out * self.n_dropped
        return n_lost / (n_lost + self.n_found_out) if n_lost else 0.0


def control_estimate(workspace: Workspace) -> ControlEstimate | None:
    """Return the estimate; None before `screen` and `consensus`, or where nothing was dropped as in-class."""
    if not (workspace.has(schema.SCREEN) and workspace.has(schema.VERDICTS)):
        return None
    screened = workspace.read(schema.SCREEN)
    flagged = screened.filter(pc.equal(screened.column("reason"), "in_class"))
    if not flagged.num_rows:
        return None
    verdicts = workspace.read(schema.VERDICTS)
    word_of = dict(zip(*(verdicts.column(name).to_pylist() for name in ("image_id", "verdict")), strict=True))
    controls = flagged.filter(flagged.column("is_control")).column("image_id").to_pylist()
    words = [word_of.get(image_id) for image_id in controls]
    settled = [word for word in words if word in _SETTLED]
    return ControlEstimate(
        len(controls),
        flagged.num_rows - len(controls),
        counted_share(settled.count("out"), len(settled)),
        list(word_of.values()).count("out"),
    )


def format_control(estimate: ControlEstimate) -> str:
    """Return the estimate as lines for the terminal."""
    settled = f"control images: {estimate.n_control:,} among those under review"
    if not estimate.out.n_all:
        return f"{settled}, none with a verdict yet: what the screen lost is not known"
    low, value, high = (
        estimate.lost_share(share) for share in (estimate.out.low, estimate.out.value, estimate.out.high)
    )
    return (
        f"{settled}; out are {estimate.out}\n"
        f"  so of all OOD images the screen lost {value:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"in {estimate.n_dropped:,} dropped as in-class"
    )
