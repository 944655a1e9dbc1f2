"""Reading a decisions log line by line, each line checked against those before it."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from annotation.decisions import Decision, decision_from_row
from manifests.chained_log import GENESIS, hash_of_line
from manifests.errors import InputError, TableError


class LogReader:
    """The state of a log while its lines are taken one by one.

    Parameters
    ----------
    path : Path
        The log; nothing is read before `read_on`.

    Attributes
    ----------
    decisions : list of Decision
        What was read, oldest first.
    n_bytes : int
        How much of the file was read, up to the end of a line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decisions: list[Decision] = []
        self.n_bytes = 0
        self._hashes: list[str] = []
        self._line_of: dict[str, int] = {}
        self._n_standing: defaultdict[tuple[str, str], int] = defaultdict(int)

    @property
    def last_hash(self) -> str:
        """What the next line must carry as `previous`."""
        return self._hashes[-1] if self._hashes else GENESIS

    def find(self, decision_id: str) -> Decision | None:
        """Return the decision stored under `decision_id`, or None."""
        number = self._line_of.get(decision_id)
        return None if number is None else self.decisions[number - 1]

    def hash_of(self, number: int) -> str | None:
        """Return the SHA-256 of line `number`, counted from 1, or None where there is no such line."""
        return self._hashes[number - 1] if 1 <= number <= len(self._hashes) else None

    def read_on(self) -> list[Decision]:
        """Return what was added since the last call; a last line without its end waits for the next call.

        Raises
        ------
        TableError
            A line does not follow the schema, the chain is broken, a decision_id stands twice, or an ``undo``
            takes back nothing; the message names file and line.
        """
        n_before = len(self.decisions)
        with self.path.open("rb") as stream:
            stream.seek(self.n_bytes)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.split(b"\n")[:-1]:
            self.take(line)
        self.n_bytes += len(whole)
        return self.decisions[n_before:]

    def take(self, line: bytes) -> None:
        """Add one line, without its line end; TableError names file and line where it does not fit."""
        number = len(self.decisions) + 1
        decision, previous = self._parse(line, number)
        if previous != self.last_hash:
            found_before = "it is the first line" if number == 1 else f"line {number - 1} has {self.last_hash}"
            raise TableError(
                f"{self.path}, line {number}: the chain is broken: it says that the line before has the hash "
                f"{previous}, but {found_before}; line {max(number - 1, 1)} was changed, or lines were removed or "
                f"moved just before line {number}"
            )
        if decision.decision_id in self._line_of:
            first = self._line_of[decision.decision_id]
            raise TableError(
                f"{self.path}, line {number}: decision {decision.decision_id} stands already in line {first}"
            )
        key = (decision.queue, decision.image_id)
        if decision.answer == "undo" and not self._n_standing[key]:
            raise TableError(
                f"{self.path}, line {number}: undo of {decision.image_id}, which has no standing answer in the "
                f"queue {decision.queue!r}"
            )
        self._n_standing[key] += -1 if decision.answer == "undo" else 1
        self._line_of[decision.decision_id] = number
        self.decisions.append(decision)
        self._hashes.append(hash_of_line(line))

    def give_back(self, n_kept: int) -> None:
        """Forget all lines after the first `n_kept`."""
        for decision in self.decisions[n_kept:]:
            del self._line_of[decision.decision_id]
            self._n_standing[decision.queue, decision.image_id] -= -1 if decision.answer == "undo" else 1
        del self.decisions[n_kept:], self._hashes[n_kept:]

    def _parse(self, line: bytes, number: int) -> tuple[Decision, Any]:
        try:
            # As text: of bytes, the encoding would be guessed anew for each line.
            row = json.loads(line.decode())
            if not isinstance(row, dict):
                raise InputError(f"expected a JSON object, found {type(row).__name__}")
            previous = row.pop("previous", None)
            return decision_from_row(row), previous
        except (ValueError, InputError) as error:
            raise TableError(f"{self.path}, line {number}: {error}") from error
