"""Referring sets in the layout of the authors' tools: which phrases name which masks of which pictures.

::

    ROOT/anns/DATASET/SPLIT.json        a list; of each entry are read: segment_id, img_name, sentences[].sent
    ROOT/images/train2014/IMG_NAME
    ROOT/masks/DATASET/SEGMENT_ID.png   0 outside, 255 inside

with the data sets ``refcoco``, ``refcoco+``, ``refcocog_u`` and ``refcocog_g``. Their LMDB files are made of these
same three and hold nothing more, in a serialisation that pyarrow has dropped; they are not read here.
"""

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from manifests.durable import sha256_of_file
from manifests.errors import InputError, UnreadableImageError
from manifests.images import read_image

_NAME_PATTERN = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class ReferringExample:
    """One mask with the phrases that name it.

    Attributes
    ----------
    segment_id : str
        Its identifier, unique in a split.
    picture_path, mask_path : Path
        The files.
    phrases : tuple of str
        At least one.
    """

    segment_id: str
    picture_path: Path
    mask_path: Path
    phrases: tuple[str, ...]

    def read(self) -> tuple[Image.Image, Image.Image]:
        """Return the RGB picture and its mask, mode L.

        Raises
        ------
        InputError
            A file is missing or unreadable, or the two differ in size.
        """
        try:
            picture, mask = read_image(self.picture_path), read_image(self.mask_path).getchannel("R")
        except (OSError, UnreadableImageError) as error:
            raise InputError(f"segment {self.segment_id}: its picture or mask cannot be read ({error})") from error
        if picture.size != mask.size:
            raise InputError(
                f"{self.mask_path}: expected {picture.width} x {picture.height} px as {self.picture_path.name}, "
                f"found {mask.width} x {mask.height} px"
            )
        return picture, mask


def read_examples(root: Path, dataset: str, split: str) -> list[ReferringExample]:
    """Return the examples of a split, in the file's order.

    Raises
    ------
    InputError
        There is no such file, or an entry is not what it should be.
    """
    path = root / "anns" / dataset / f"{split}.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected ROOT/anns/DATASET/SPLIT.json"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected a list of entries, found {type(entries).__name__} without any")
    examples = [_example(root, dataset, entry, f"{path}, entry {place}") for place, entry in enumerate(entries)]
    if len({example.segment_id for example in examples}) < len(examples):
        raise InputError(f"{path}: a segment_id occurs twice")
    return examples


def _example(root: Path, dataset: str, entry: Any, where: str) -> ReferringExample:
    try:
        segment_id, picture_name = str(entry["segment_id"]), str(entry["img_name"])
        phrases = tuple(str(sentence["sent"]).strip() for sentence in entry["sentences"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{where}: expected segment_id, img_name and sentences[].sent ({error!r})") from error
    for name in (segment_id, picture_name):
        # They become paths: a file must not lead out of its folder.
        if not _NAME_PATTERN.fullmatch(name):
            raise InputError(f"{where}: expected a plain file name, found {name!r}")
    if not phrases or not all(phrases):
        raise InputError(f"{where}: segment {segment_id} has no phrase, or an empty one")
    return ReferringExample(
        segment_id,
        root / "images" / "train2014" / picture_name,
        root / "masks" / dataset / f"{segment_id}.png",
        phrases,
    )


def examples_digest(examples: Sequence[ReferringExample]) -> str:
    """Return 16 hex digits over ids, phrases, and the bytes of pictures and masks, in order.

    A resumed training must find them. Every file is read once.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    digest = hashlib.sha256()
    content_digest = functools.cache(_content_digest)
    for example in examples:
        contents = [content_digest(path) for path in (example.picture_path, example.mask_path)]
        fields = [example.segment_id, example.picture_path.name, *contents, *example.phrases]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()[:16]


def _content_digest(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
