"""The nouns of WordNet 3.0, whose offsets are ImageNet's ids."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import InputError


def normalised(name: str) -> str:
    """Return a name in lower case, apostrophes left out, all else but letters and digits one space."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower().replace("'", "")).strip()


@dataclass(frozen=True)
class Synset:
    """One sense: its names, its gloss, and the ids of the senses right above it."""

    names: tuple[str, ...]
    gloss: str
    above: tuple[str, ...]


class Nouns:
    """All noun senses by id (``n`` and eight digits), and the ids of a name."""

    def __init__(self, synsets: dict[str, Synset]) -> None:
        self.synsets = synsets
        self._senses: dict[str, set[str]] = defaultdict(set)
        for wnid, synset in synsets.items():
            for name in synset.names:
                self._senses[normalised(name)].add(wnid)

    def senses(self, name: str) -> list[str]:
        """Return the ids of all senses with this name, after normalising it."""
        return sorted(self._senses.get(normalised(name), ()))

    def all_above(self, wnid: str) -> set[str]:
        """Return the ids of everything that this sense is a kind of."""
        found: set[str] = set()
        waiting = [wnid]
        while waiting:
            new = set(self.synsets[waiting.pop()].above) - found
            found |= new
            waiting += new
        return found


def read_nouns(data_path: Path) -> Nouns:
    """Return the nouns of WordNet's ``data.noun``.

    Raises
    ------
    InputError
        The file cannot be read, or is not WordNet's.
    """
    try:
        synsets = dict(_synsets(data_path))
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{data_path}: cannot be read as WordNet's data.noun ({error})") from error
    if len(synsets) != 82_115:
        raise InputError(f"{data_path}: expected the 82,115 nouns of WordNet 3.0, found {len(synsets):,}")
    return Nouns(synsets)


def _synsets(path: Path) -> Iterator[tuple[str, Synset]]:
    # The form of a line: wndb(5WN), "Data File Format". The licence in front is indented.
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue
        data, _, gloss = line.partition(" | ")
        cells = data.split()
        n_names = int(cells[3], 16)
        names = tuple(cells[4 + 2 * number].replace("_", " ") for number in range(n_names))
        at = 4 + 2 * n_names
        pointers = [cells[at + 1 + 4 * number : at + 5 + 4 * number] for number in range(int(cells[at]))]
        above = tuple(f"n{offset}" for symbol, offset, _, _ in pointers if symbol in ("@", "@i"))
        yield f"n{cells[0]}", Synset(names, gloss.strip(), above)
