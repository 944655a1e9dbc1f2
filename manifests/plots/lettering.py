"""Words in pictures that Pillow draws: matplotlib's own font, which has far more scripts than Pillow's."""

import functools
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont


def _font_path() -> Path:
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@functools.cache
def lettering(size_px: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which has the Latin, Greek, Cyrillic, Armenian, Georgian, Hebrew and Arabic scripts."""
    return ImageFont.truetype(_font_path(), size_px)


@functools.cache
def _has_letter(character: str) -> bool:
    return character.isprintable() and ord(character) in _letters()


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(str(_font_path())).get_charmap())


def spelled(words: str) -> str:
    r"""Return words as `lettering` can draw them: what it has no letter for as an escape, such as ``\u732b``.

    They can be read back without doubt, as Python does, since a backslash is doubled.
    """
    return "".join(
        one if one != "\\" and _has_letter(one) else one.encode("unicode_escape").decode("ascii") for one in words
    )
