"""What the screen lost, by its control images: dropped as in-class, yet judged by annotators unmarked."""

from collections.abc import Iterable
from dataclasses import dataclass

from manifests import schema
from manifests.proportions import Share, counted_share
from manifests.workspace import Workspace

_SETTLED = ("out", "in", "difficult")

_CONFIDENCE = 0.96
"""Of each of two intervals whose ends are used together: three ends, at most 2 % wrong each, make 94 % at least."""


@dataclass(frozen=True)
class ControlEstimate:
    """How many truly OOD pictures the screen dropped as in-class.

    Attributes
    ----------
    n_control, n_dropped, n_kept : int
        Images flagged as in-class that annotators got, those that they did not get, and the others under review.
    control_out, kept_out : Share
        Of the control images, and of the others under review, with a settled verdict, those that are ``out``.
    """

    n_control: int
    n_dropped: int
    n_kept: int
    control_out: Share
    kept_out: Share
