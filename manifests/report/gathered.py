"""Sections of several makers in one list: what is damaged says so in its place, and the rest goes on."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from manifests.errors import OpenImageOError, one_line
from manifests.report.parts import Section
from manifests.report.provenance import read_records
from manifests.workspace import DISTRIBUTION_NAME, Workspace

_MOST_CHARS = 2000

Subject = TypeVar("Subject")


def gathered(
    subject: Subject, makers: Iterable[tuple[str, str, Callable[[Subject], Section | list[Section]]]]
) -> list[Section]:
    """Return the sections of each maker, in order.

    Parameters
    ----------
    subject
        What is reported: a workspace, or what was read of one for all makers.
    makers : iterable of (key, title, function)
        The function returns a section or several; where it raises an error of ours, one section of this key and
        title holds its text.
    """
    sections: list[Section] = []
    for key, title, make in makers:
        try:
            made = make(subject)
            sections += [made] if isinstance(made, Section) else made
        except OpenImageOError as error:
            sections.append(Section(key, title, problem=one_line(error, _MOST_CHARS)))
    return sections


def report_lead(workspace: Workspace) -> str:
    """Return what the report tells of, in a sentence: the last run of a stage, and its end.

    The report bears no time of its own: it is as young as what it shows, and equal as long as that is equal.
    """
    records, _ = read_records(workspace)
    if not records:
        return "No stage has been run here yet."
    last = max(records, key=lambda record: (record.ended, record.started, record.name)).content
    moment = last["ended"][:16].replace("T", " ")
    version = last["versions"].get(DISTRIBUTION_NAME, "of unknown version")
    return f"As of {moment} UTC, when {last['stage']} was {last['outcome']}; toolkit {version}."
