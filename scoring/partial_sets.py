"""Parts of a feature set: runs of consecutive pictures, each stored as soon as its features are there.

A run that was stopped goes on with the parts that are missing. Where a part begins is told by the id of its first
picture alone, so that a picture that is added or taken away changes the part around it and not those after it. A
batch never reaches over the end of a part: features depend by rounding on the size of their batch, and are so the
same bits whether a part was made in the first run or in a later one.

A part is believed only if the settings and the bytes of its pictures are those of now. Bytes, by SHA-256, and not
size and time of change: on the first run they are read anyway, and pictures that were moved, copied or unpacked
anew stay what they are. The price is that a rerun reads the pictures of the parts that are there once more, at
thousands a second: the digest takes 0.1 ms of a picture of 100 kB, of which decoding takes 4 ms.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from manifests.ahead import prepared_ahead
from manifests.durable import replacing
from manifests.image_ids import shard_of
from scoring.pictures import Picture

_FILES_AHEAD = 16
"""Digests that wait for each thread that reads."""


@dataclass(frozen=True)
class Part:
    """Consecutive pictures of a set, in the order of their ids."""

    pictures: tuple[Picture, ...]

    @cached_property
    def name(self) -> str:
        """16 hex digits that stand for the ids and rotations: the name of its file."""
        lines = (f"{picture.image_id} {picture.rotation_deg or 0}\n" for picture in self.pictures)
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class PartRows:
    """What the network made of a part.

    Attributes
    ----------
    pictures_sha256 : str
        `joint_sha256` of its pictures' bytes.
    unreadable : mapping of str to tuple of str
        Image ids that could not be read, with status and reason.
    features : Tensor
        (n, n_features), float32, of the other pictures in order.
    """

    pictures_sha256: str
    unreadable: Mapping[str, tuple[str, str]]
    features: torch.Tensor


def parts_of(pictures: Sequence[Picture], mean_length: int) -> list[Part]:
    """Return `pictures`, sorted by id, in parts that begin where the id says so, `mean_length` long on average."""
    parts: list[list[Picture]] = []
    for picture in pictures:
        if shard_of(picture.image_id, mean_length) == 0 or not parts:
            parts.append([])
        parts[-1].append(picture)
    return [Part(tuple(part)) for part in parts]


def content_sha256(content: bytes | None) -> str:
    """Return the digest of a picture's bytes, or what stands for those of a file that cannot be read."""
    return "none" if content is None else hashlib.sha256(content).hexdigest()


def joint_sha256(digests: Iterable[str]) -> str:
    """Return one digest of the digests of a part's pictures, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def parts_sha256(parts: Sequence[Part], n_workers: int, told: Callable[[], object]) -> dict[str, str]:
    """Return the digest of the pictures of each part by its name, as they are on disk; `told` of every picture."""

    def read(picture: Picture) -> str:
        told()
        try:
            return content_sha256(picture.path.read_bytes())
        except OSError:
            return content_sha256(None)

    pictures = (picture for part in parts for picture in part.pictures)
    stream = prepared_ahead(read, pictures, n_workers=n_workers, n_ahead=_FILES_AHEAD * n_workers)
    return {part.name: joint_sha256(digest for _, digest in islice(stream, len(part.pictures))) for part in parts}


class PartStore:
    """The folder of the parts of one set that is being made; deleted when the set is there.

    Parameters
    ----------
    folder : Path
        Made with the first part.
    settings_sha256 : str
        Of everything but the pictures that features depend on.
    """

    def __init__(self, folder: Path, settings_sha256: str) -> None:
        self.folder = folder
        self._settings_sha256 = settings_sha256

    def pictures_sha256(self, part: Part) -> str | None:
        """Return the digest of the pictures that a stored part was made of, or None where none can be had.

        There is none of these settings, or it is damaged: either way it is one to make.
        """
        try:
            with safe_open(self._path(part), "pt") as file:
                stored = file.metadata() or {}
        except (OSError, SafetensorError):
            return None
        return stored.get("pictures_sha256") if stored.get("settings_sha256") == self._settings_sha256 else None

    def read(self, part: Part) -> PartRows:
        """Return a part that is there, as `pictures_sha256` tells."""
        with safe_open(self._path(part), "pt") as file:
            stored = file.metadata()
            unreadable = {
                name: (status, reason) for name, (status, reason) in json.loads(stored["unreadable"]).items()
            }
            return PartRows(stored["pictures_sha256"], unreadable, file.get_tensor("features"))

    def write(self, part: Part, rows: PartRows) -> None:
        """Store a part, on disk when this returns."""
        metadata = {
            "settings_sha256": self._settings_sha256,
            "pictures_sha256": rows.pictures_sha256,
            "unreadable": json.dumps(rows.unreadable),
        }
        with replacing(self._path(part)) as temporary:
            save_file({"features": rows.features.contiguous()}, temporary, metadata=metadata)

    def delete(self) -> None:
        """Delete the folder with all parts, if it is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, part: Part) -> Path:
        return self.folder / f"{part.name}.safetensors"
