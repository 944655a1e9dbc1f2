"""What the vectors of one embedding store have in common: its key, as ``model.json`` in its folder has it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from curation.views import TILING
from manifests.errors import TableError, one_line

KEY_FILE_NAME = "model.json"


@dataclass(frozen=True)
class StoreKey:
    """What the vectors of a store have in common; another key is another folder.

    Attributes
    ----------
    source : str
        ``clip``, ``classifier``, or ``features``, a set of features that `extract-features` or others made.
    model, pretrained : str
        As given on the command line: model and weights or checkpoint; of features, the model's folder and the set.
    encoder_digest : str
        Digest of weights and preprocessing.
    n_dimensions : int
        Length of an embedding.
    grid : int
        Tiles along the shorter side, 0 for the whole picture only.
    tiling : str
        The rule of `curation.views` that the tiles were cut by.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``: what the model computed in.
    decoding : str
        ``exact``, or ``fast``: JPEGs were decoded at reduced size.
    settings : mapping
        What else the model was loaded with, JSON values; `encoder_digest` covers what of it counts.
    """

    source: str
    model: str
    pretrained: str
    encoder_digest: str
    n_dimensions: int
    grid: int
    tiling: str = TILING
    precision: str = "fp32"
    decoding: str = "exact"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """16 hex digits that name the store's folder."""
        parts = (
            self.source, self.encoder_digest, self.n_dimensions, self.grid, self.tiling, self.precision,
            self.decoding,
        )  # fmt: skip
        return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def read_key(path: Path) -> StoreKey:
    """Return the key in a file.

    Raises
    ------
    TableError
        It cannot be read, or is of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if missing := {known.name for known in fields(StoreKey)} - set(content):
            raise ValueError(f"{', '.join(sorted(missing))} missing")
        return StoreKey(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TableError(
            f"{path}: not the description of an embedding store as this version writes it "
            f"({one_line(error)}): delete {path.parent} and run 'embed' again"
        ) from error


def lasting_name(name_or_path: str) -> str:
    """Return an existing file or folder by its absolute path, as `screen` may run in another folder."""
    path = Path(name_or_path)
    return str(path.resolve()) if name_or_path and path.exists() else name_or_path
