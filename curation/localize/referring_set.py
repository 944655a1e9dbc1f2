"""Referring sets in the layout of the authors' tools: which phrases name which masks of which pictures.

::

    ROOT/anns/DATASET/SPLIT.json        a list; of each entry are read: segment_id, img_name, sentences[].sent
    ROOT/images/train2014/IMG_NAME
    ROOT/masks/DATASET/SEGMENT_ID.png   0 outside, 255 inside

with the data sets ``refcoco``, ``refcoco+``, ``refcocog_u`` and ``refcocog_g``. Where the layout is not there, the
LMDB files that their tools make of it are read in its place (`curation.localize.referring_lmdb`). The examples are
the same, and so is their digest: a training goes on over the other.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from curation.localize.referring_lmdb import LmdbField, LmdbSplit
from manifests.errors import InputError, UnreadableImageError
from manifests.images import decode_image

_NAME_PATTERN = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*")


class PictureBytes(Protocol):
    """The bytes of a picture file, wherever they lie; printed, it says where. Equal ones are the same bytes."""

    def read(self) -> bytes:
        """Return them; InputError where they cannot be read."""
        ...


@dataclass(frozen=True)
class LayoutFile:
    """A picture in a file of the layout.

    Attributes
    ----------
    path : Path
        The file.
    """

    path: Path

    def read(self) -> bytes:
        """Return its bytes.

        Raises
        ------
        InputError
            It cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from error

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class ReferringExample:
    """One mask with the phrases that name it.

    Attributes
    ----------
    segment_id : str
        Its identifier, unique in a split.
    picture_name : str
        The picture's file name.
    picture, mask : PictureBytes
        The bytes of both.
    phrases : tuple of str
        At least one.
    """

    segment_id: str
    picture_name: str
    picture: PictureBytes
    mask: PictureBytes
    phrases: tuple[str, ...]

    def read(self) -> tuple[Image.Image, Image.Image]:
        """Return the RGB picture and its mask, mode L.

        Raises
        ------
        InputError
            One cannot be read, or the two differ in size.
        """
        try:
            picture, mask = decode_image(self.picture.read()), decode_image(self.mask.read()).getchannel("R")
        except (InputError, UnreadableImageError) as error:
            raise InputError(f"segment {self.segment_id}: its picture or mask cannot be read ({error})") from error
        if picture.size != mask.size:
            raise InputError(
                f"{self.mask}: expected {picture.width} x {picture.height} px as {self.picture_name}, "
                f"found {mask.width} x {mask.height} px"
            )
        return picture, mask


def read_examples(root: Path, dataset: str, split: str) -> list[ReferringExample]:
    """Return the examples of a split, in the file's order.

    Raises
    ------
    InputError
        There is no such file, or an entry is not what it should be.
    ToolMissingError
        There is an LMDB file alone, and the package lmdb is not installed.
    """
    annotations, pictures = root / "anns" / dataset / f"{split}.json", root / "images" / "train2014"
    database = root / "lmdb" / dataset / f"{split}.lmdb"
    if database.exists() and not (annotations.exists() and pictures.exists()):
        path, examples = database, _from_lmdb(database)
    else:
        path, examples = annotations, _from_layout(annotations, pictures, root / "masks" / dataset)
    if len({example.segment_id for example in examples}) < len(examples):
        raise InputError(f"{path}: a segment_id occurs twice")
    return examples


def _from_layout(path: Path, pictures: Path, masks: Path) -> list[ReferringExample]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected ROOT/anns/DATASET/SPLIT.json, or all of it in "
            "ROOT/lmdb/DATASET/SPLIT.lmdb"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected a list of entries, found {type(entries).__name__} without any")

    def stored(segment_id: str, picture_name: str) -> tuple[LayoutFile, LayoutFile]:
        return LayoutFile(pictures / picture_name), LayoutFile(masks / f"{segment_id}.png")

    return [_example(entry, stored, f"{path}, entry {place}") for place, entry in enumerate(entries)]


def _from_lmdb(path: Path) -> list[ReferringExample]:
    split = LmdbSplit.opened(path)

    def example(key: bytes, entry: Any) -> ReferringExample:
        fields = LmdbField(split, key, "img"), LmdbField(split, key, "mask")
        return _example(entry, lambda *names: fields, f"{path}, entry {key.decode('ascii', 'replace')}")

    return [example(key, entry) for key, entry in split.entries()]


def _example(
    entry: Any, stored: Callable[[str, str], tuple[PictureBytes, PictureBytes]], where: str
) -> ReferringExample:
    try:
        segment_id, picture_name = entry["segment_id"], entry["img_name"]
        phrases = tuple(sentence["sent"] for sentence in entry["sentences"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{where}: expected segment_id, img_name and sentences[].sent ({error!r})") from error
    # Exactly these: a truth value is a number for Python.
    if type(segment_id) not in (int, str) or not all(isinstance(word, str) for word in (picture_name, *phrases)):
        raise InputError(f"{where}: expected a number or word as segment_id, and words as img_name and sent")
    segment_id, phrases = str(segment_id), tuple(phrase.strip() for phrase in phrases)
    if any("\ud800" <= letter <= "\udfff" for phrase in phrases for letter in phrase):
        raise InputError(f"{where}: a phrase holds half of a pair of UTF-16, which is no letter")
    for name in (segment_id, picture_name):
        # They become paths: a file must not lead out of its folder.
        if not _NAME_PATTERN.fullmatch(name):
            raise InputError(f"{where}: expected a plain file name, found {name!r}")
    if not phrases or not all(phrases):
        raise InputError(f"{where}: segment {segment_id} has no phrase, or an empty one")
    return ReferringExample(segment_id, picture_name, *stored(segment_id, picture_name), phrases)


def examples_digest(examples: Sequence[ReferringExample]) -> str:
    """Return 16 hex digits over ids, phrases, and the bytes of pictures and masks, in order.

    A resumed training must find them. Every file is read once.

    Raises
    ------
    InputError
        One cannot be read.
    """
    digest, known = hashlib.sha256(), dict[PictureBytes, str]()
    for example in examples:
        for stored in (example.picture, example.mask):
            if stored not in known:
                known[stored] = hashlib.sha256(stored.read()).hexdigest()
        contents = [known[example.picture], known[example.mask]]
        fields = [example.segment_id, example.picture_name, *contents, *example.phrases]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()[:16]
