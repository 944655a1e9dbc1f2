"""The end of a training: its localizer beside others, in figures and in pictures, made once and kept.

Judging takes minutes, and depends on the localizers and on the examples alone. `judge_once` keeps the figures with
the digests of both, and takes them from there as long as these are the same.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.localize.contact_sheet import write_contact_sheet
from curation.localize.evaluate import fitted_threshold
from curation.localize.judgement import Contender, Judgement, judged
from curation.localize.localizer import Localizer
from curation.localize.referring_set import ReferringExample, examples_digest
from manifests.durable import sha256_of_file, sha256_of_json, write_json
from manifests.errors import one_line
from manifests.strict_json import strict_json
from manifests.workspace import tool_version

FIGURES_FILE = "figures.json"
CONTACT_SHEET_FILE = "contact_sheet.png"


@dataclass(frozen=True)
class Entrant:
    """A localizer that is to be judged.

    Attributes
    ----------
    name : str
        What it is, for people.
    localizer : Localizer
        Asked for masks.
    is_fitted : bool
        Whether the threshold of its evidence is fitted; otherwise it is as it should be.
    is_shown : bool
        Whether it stands on the contact sheet.
    """

    name: str
    localizer: Localizer
    is_fitted: bool = False
    is_shown: bool = True

    def contender(self, examples: Sequence[ReferringExample]) -> Contender:
        """Return it with its threshold, fitted on `examples` where that is asked for."""
        if not self.is_fitted:
            return Contender(self.name, self.localizer)
        return Contender(self.name, self.localizer, fitted_threshold(self.localizer, examples))


@dataclass(frozen=True)
class Trial:
    """What is judged, and by what.

    Attributes
    ----------
    entrants : sequence of Entrant
        In the order of the tables.
    judged_on : mapping of str to sequence of ReferringExample
        By the title of their table.
    fitted_on : sequence of ReferringExample
        For thresholds.
    shown : sequence of ReferringExample
        On the contact sheet.
    device : str
        The kind that computes: the last bits of evidence are its own.
    """

    entrants: Sequence[Entrant]
    judged_on: Mapping[str, Sequence[ReferringExample]]
    fitted_on: Sequence[ReferringExample]
    shown: Sequence[ReferringExample]
    device: str

    def inputs(self) -> dict[str, Any]:
        """Return digests of all that figures and contact sheet are made of, as JSON values."""
        return {
            "entrants": [
                [one.name, one.localizer.digest, "fitted" if one.is_fitted else "as it is", one.is_shown]
                for one in self.entrants
            ],
            "judged_on": [[title, examples_digest(examples)] for title, examples in self.judged_on.items()],
            "fitted_on": examples_digest(self.fitted_on),
            "shown": examples_digest(self.shown),
            "device": self.device,
            # Another version may judge, or draw, otherwise.
            "tool_version": tool_version(),
        }


def judge_once(trial: Trial, out_dir: Path, *, announce: Callable[[str], None]) -> list[Judgement]:
    """Return a judgement for each title, and leave them in `out_dir`, beside a contact sheet.

    What lies there of the same trial is returned. What is of another trial, damaged, or without the contact sheet
    that was written with it, is made anew.

    Raises
    ------
    InputError
        A picture or mask cannot be read.
    """
    path, sheet_path = out_dir / FIGURES_FILE, out_dir / CONTACT_SHEET_FILE
    inputs = trial.inputs()
    stored = _stored(path, announce) if path.exists() else None
    if stored is not None and stored.inputs == inputs and stored.is_of_sheet(sheet_path):
        announce(f"{path}: this localizer was judged on these examples before")
        return stored.judgements
    judged_on = list(itertools.chain.from_iterable(trial.judged_on.values()))
    n_phrases = sum(len(example.phrases) for example in judged_on)
    announce(f"judging {len(trial.entrants)} answers to {n_phrases:,} phrases of {len(judged_on):,} masks")
    pairs = [(one, one.contender(trial.fitted_on)) for one in trial.entrants]
    write_contact_sheet(sheet_path, trial.shown, [contender for one, contender in pairs if one.is_shown])
    contenders = [contender for _, contender in pairs]
    judgements = [judged(contenders, examples, title=title) for title, examples in trial.judged_on.items()]
    # After the sheet: where they are, all is done.
    _write(path, _Stored(inputs, sha256_of_file(sheet_path), judgements))
    return judgements


@dataclass(frozen=True)
class _Stored:
    """What the file of figures holds."""

    inputs: Mapping[str, Any]
    sheet_sha256: str
    judgements: list[Judgement]

    def is_of_sheet(self, path: Path) -> bool:
        """Return whether the contact sheet is the one that was written with the figures."""
        return path.exists() and sha256_of_file(path) == self.sheet_sha256


def _write(path: Path, stored: _Stored) -> None:
    content = {
        "inputs": stored.inputs,
        "contact_sheet_sha256": stored.sheet_sha256,
        "figures": [one.record() for one in stored.judgements],
    }
    write_json(path, {**content, "content_sha256": sha256_of_json(content)})


def _stored(path: Path, announce: Callable[[str], None]) -> _Stored | None:
    """Return what a file of figures holds; None, and a notice, where it is not what was written."""
    try:
        content = dict(strict_json(path.read_bytes()))
        said = content.pop("content_sha256")
        if said != sha256_of_json(content):
            raise ValueError("its SHA-256 is another than it says")
        judgements = [Judgement.from_record(record) for record in content["figures"]]
        return _Stored(content["inputs"], content["contact_sheet_sha256"], judgements)
    except (ValueError, KeyError, TypeError) as error:
        # They follow from the localizer and the examples, which are checked: nothing is lost by making them anew.
        announce(f"{path}: damaged ({one_line(error)}); judging again")
        return None
