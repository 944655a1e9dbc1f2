"""What a decision says of the evidence masks over its picture: a computer's hint, which may sway who answers."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manifests.errors import InputError

if TYPE_CHECKING:
    from annotation.decisions import Decision

VERSION = 1
"""Of this part of a line of a log."""

STATES = ("none", "closed", "opened")

_FIELDS = frozenset({"version", "state", "classes"})


@dataclass(frozen=True)
class MaskUse:
    """Whether whoever answers had opened the masks of a picture by then.

    What was seen stays seen: it counts from the first look at the picture on, also over an answer taken back.

    Attributes
    ----------
    state : str
        One of `STATES`: there were none that could be opened; they were offered and not opened; they were opened,
        in whichever page of the annotator.
    classes : tuple of int
        The shown classes whose masks were drawn, in the order shown, with ``opened`` alone. Empty there where the
        masks were sent and no page has told of one that was drawn.
    """

    state: str
    classes: tuple[int, ...] = ()

    def is_valid(self, shown_classes: Collection[int]) -> bool:
        """Return whether the state is one of `STATES` and its classes are among those shown, each once."""
        if self.state != "opened":
            return self.state in STATES and self.classes == ()
        # A set takes True for 1, which is no class.
        are_classes = all(type(class_index) is int for class_index in self.classes)
        return are_classes and len(set(self.classes)) == len(self.classes) and {*self.classes} <= {*shown_classes}

    def to_row(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"version": VERSION, "state": self.state, "classes": list(self.classes)}


def mask_use_from_row(row: object) -> MaskUse:
    """Return what a line of a log says of masks.

    Raises
    ------
    InputError
        It is of another version, or a field is missing, unknown or of another type.
    """
    version = row.get("version", VERSION) if isinstance(row, Mapping) else VERSION
    # True and 1.0 are equal to 1.
    if type(version) is not int or version != VERSION:
        raise InputError(
            f"decision: masks should be of version {VERSION}, is of {version!r}: another version of this "
            "toolkit has written it"
        )
    if not isinstance(row, Mapping) or row.keys() != _FIELDS or not isinstance(row["classes"], list):
        raise InputError(f"decision: masks should be an object of {', '.join(sorted(_FIELDS))}, is {row!r}")
    return MaskUse(row["state"], tuple(row["classes"]))


class MaskWitness:
    """What is known of the masks that one annotator has opened, by picture.

    A page may be reloaded, be of an older version or say what is not so. Whether masks were opened therefore goes
    by what was sent to it and by what earlier answers say. Where masks are offered, a page that tells of masks
    that were never sent is believed too: the record of what was sent may be lost, and nobody makes up a hint.
    Where none are offered it is not. Which classes were drawn the page alone knows: that is held against the
    classes shown, and against nothing else.

    Parameters
    ----------
    decisions : iterable of Decision
        The annotator's log.
    sent : iterable of str
        Pictures whose masks were sent to the annotator before, whether answered since or not.
    """

    def __init__(self, decisions: Iterable["Decision"], sent: Iterable[str] = ()) -> None:
        self._opened: dict[str, set[int]] = {image_id: set() for image_id in sent}
        for decision in decisions:
            self.note_stored(decision)

    def note_sent(self, image_id: str) -> None:
        """Remember that the masks of a picture were sent."""
        self._opened.setdefault(image_id, set())

    def note_stored(self, decision: "Decision") -> None:
        """Remember what an answer in the log says."""
        if decision.masks is not None and decision.has_opened_masks:
            self._opened.setdefault(decision.image_id, set()).update(decision.masks.classes)

    def use(
        self, image_id: str, shown_classes: Collection[int], told: object, *, is_offered: bool
    ) -> MaskUse | None:
        """Return what the answer to a picture is to say of masks; None where that is not known.

        Parameters
        ----------
        image_id : str
            The picture.
        shown_classes : collection of int
            The classes beside it now. Masks of others, drawn before the screen was run again, are left out.
        told : object
            The classes of the masks that were drawn, as the page says; None where it says nothing.
        is_offered : bool
            Whether the picture has masks that may be opened.

        Raises
        ------
        InputError
            `told` is no list of integers.
        """
        # A set takes True for 1, which is no class.
        if told is not None and not (isinstance(told, list) and all(type(index) is int for index in told)):
            raise InputError(
                f"masks_seen: expected a list of class indices for {image_id}, found {str(told)[:80]!r}"
            )
        known = self._opened.get(image_id)
        if known is None and not is_offered:
            return MaskUse("none")
        if known is None and not told:
            return None if told is None else MaskUse("closed")
        seen = {*(known or ()), *(told or ())}
        return MaskUse("opened", tuple(index for index in shown_classes if index in seen))
