"""The parts of a picture file, walked without decoding: what a decoder would be made to do, before it does it.

Nothing is inflated and no pixel is decoded, so that a file of any content costs time and memory in proportion to
its own length.
"""

import contextlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

MAX_PARTS = 65_536
"""Chunks, segments or blocks of one file; a PNG of 64 MiB in chunks of 8 KiB has 8,192."""

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_LONE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})
_JPEG_START_OF_SCAN, _JPEG_END = 0xDA, 0xD9
# In coded data 0xFF is followed by 0 or a restart mark; anything else is the next marker.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_PNG_PICTURE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"fdAT"})
_PNG_COMPRESSED_CHUNKS = frozenset({b"zTXt", b"iTXt", b"iCCP"})
_WEBP_METADATA_CHUNKS = frozenset({b"ICCP", b"EXIF", b"XMP "})


@dataclass
class ImageStructure:
    """What the parts of a file say.

    Attributes
    ----------
    width_px, height_px : int
        As the header declares them, before any turn; 0 where there is no header.
    metadata_bytes : int
        Bytes that are no picture: EXIF, profiles, texts.
    n_compressed_texts : int
        PNG chunks that a decoder inflates besides the picture.
    n_scans : int
        Passes of a progressive JPEG over the whole picture.
    n_parts : int
        Chunks, segments or blocks.
    end : int or None
        Where the picture ends by its own end mark; None where the file ends first.
    """

    width_px: int = 0
    height_px: int = 0
    metadata_bytes: int = 0
    n_compressed_texts: int = 0
    n_scans: int = 0
    n_parts: int = 0
    end: int | None = None

    def has_room(self) -> bool:
        """Count one more part and return whether that is still within `MAX_PARTS`."""
        self.n_parts += 1
        return self.n_parts <= MAX_PARTS


def image_structure(content: bytes) -> ImageStructure | None:
    """Return the structure of a JPEG, PNG, WebP or GIF file, as far as it can be walked; None for other files."""
    for magic, walk in _WALKS:
        if magic.match(content):
            structure = ImageStructure()
            # Where the file ends within a part, `end` stays None and says so.
            with contextlib.suppress(struct.error, IndexError):
                walk(content, structure)
            return structure
    return None


def _walk_png(content: bytes, structure: ImageStructure) -> None:
    position = 8
    while structure.has_room():
        n_bytes, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IHDR":
            structure.width_px, structure.height_px = struct.unpack_from(">II", content, position + 8)
        if kind not in _PNG_PICTURE_CHUNKS:
            structure.metadata_bytes += n_bytes
            structure.n_compressed_texts += kind in _PNG_COMPRESSED_CHUNKS
        position += 12 + n_bytes
        if kind == b"IEND" and position <= len(content):
            structure.end = position
            return


def _walk_jpeg(content: bytes, structure: ImageStructure) -> None:
    position = 2
    while structure.has_room():
        found = _JPEG_MARKER.search(content, position)
        if found is None:
            return
        position = found.end()
        marker = content[position - 1]
        if marker == _JPEG_END:
            structure.end = position
            return
        if marker in _JPEG_LONE:
            continue
        (n_bytes,) = struct.unpack_from(">H", content, position)
        if marker in _JPEG_FRAMES:
            structure.height_px, structure.width_px = struct.unpack_from(">HH", content, position + 3)
        structure.n_scans += marker == _JPEG_START_OF_SCAN
        structure.metadata_bytes += n_bytes if marker in _JPEG_METADATA else 0
        position += n_bytes


def _walk_webp(content: bytes, structure: ImageStructure) -> None:
    (n_bytes,) = struct.unpack_from("<I", content, 4)
    end = 8 + n_bytes + n_bytes % 2
    position = 12
    while position < min(end, len(content)) and structure.has_room():
        kind, n_bytes = struct.unpack_from("<4sI", content, position)
        if not structure.width_px:
            structure.width_px, structure.height_px = _webp_size(content, kind, position + 8)
        structure.metadata_bytes += n_bytes if kind in _WEBP_METADATA_CHUNKS else 0
        position += 8 + n_bytes + n_bytes % 2
    structure.end = end if end <= len(content) else None


def _webp_size(content: bytes, kind: bytes, position: int) -> tuple[int, int]:
    """Return width and height of the canvas (``VP8X``) or of a still picture, lossy or lossless."""
    if kind == b"VP8X":
        packed = content[position + 4 : position + 10]
        return int.from_bytes(packed[:3], "little") + 1, int.from_bytes(packed[3:], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, position + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, position + 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _walk_gif(content: bytes, structure: ImageStructure) -> None:
    structure.width_px, structure.height_px, flags = struct.unpack_from("<HHB", content, 6)
    position = 13 + _palette_bytes(flags)
    while structure.has_room():
        kind = content[position]
        if kind == 0x3B:
            structure.end = position + 1
            return
        is_picture = kind == 0x2C
        if not is_picture and kind != 0x21:
            return
        # The header of a frame and its code size, or the label of an extension.
        start = position + (11 + _palette_bytes(content[position + 9]) if is_picture else 2)
        position = _after_sub_blocks(content, start)
        structure.metadata_bytes += 0 if is_picture else position - start


def _palette_bytes(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _after_sub_blocks(content: bytes, position: int) -> int:
    while n_bytes := content[position]:
        position += 1 + n_bytes
    return position + 1


_WALKS: tuple[tuple[re.Pattern[bytes], Callable[[bytes, ImageStructure], None]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _walk_jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _walk_png),
    # RIFF holds sounds and films too; between are four bytes of its length.
    (re.compile(rb"RIFF[\x00-\xff]{4}WEBP"), _walk_webp),
    (re.compile(rb"GIF8[79]a"), _walk_gif),
)
