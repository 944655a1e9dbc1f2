"""A picture of what localizers answer: one row a phrase, to be looked at."""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from curation.localize.evaluate import at_size
from curation.localize.judgement import Contender
from curation.localize.referring_set import ReferringExample
from manifests.colours import SKY_BLUE
from manifests.durable import write_bytes
from manifests.plots.lettering import lettering, spelled

_CELL_PX = 128
_TEXT_PX = 16
_LETTERS_PX = 11
_GAP_PX = 6
_HEADING_PX = 30
_CHARACTERS_OF_CELL = 20
_PER_ROW = 2
_OUTSIDE = ImageColor.getrgb(SKY_BLUE)
_SHOWS_THROUGH = 0.25
"""How much of a picture is left outside of a mask, below a colour on which black and white things are seen."""


def write_contact_sheet(path: Path, examples: Sequence[ReferringExample], contenders: Sequence[Contender]) -> None:
    """Write a PNG: for each example's last phrase the picture, the true mask, and each contender's mask.

    Parameters
    ----------
    path : Path
        The file.
    examples : sequence of ReferringExample
        Two a row; a phrase that is wider than its half is cut, and what the font lacks is spelled out in escapes.
    contenders : sequence of Contender
        In this order from left to right; their names stand at the top.
    """
    names = ("picture", "true mask", *(one.name for one in contenders))
    n_rows = -(-len(examples) // _PER_ROW)
    half_px = len(names) * (_CELL_PX + _GAP_PX) + 2 * _GAP_PX
    row_px = _CELL_PX + _TEXT_PX + _GAP_PX
    sheet = Image.new("RGB", (_PER_ROW * half_px, _HEADING_PX + n_rows * row_px), "white")
    draw = ImageDraw.Draw(sheet)
    draw.font = lettering(_LETTERS_PX)
    for column in range(min(_PER_ROW, len(examples))):
        for cell, name in enumerate(names):
            lines = "\n".join(textwrap.wrap(spelled(name), _CHARACTERS_OF_CELL))
            draw.text((column * half_px + cell * (_CELL_PX + _GAP_PX), 0), lines, fill="black")
    for place, example in enumerate(examples):
        row, column = divmod(place, _PER_ROW)
        left, top = column * half_px, _HEADING_PX + row * row_px
        phrase = example.phrases[-1]
        draw.text((left, top), _cut(draw, phrase, half_px - 2 * _GAP_PX), fill="black")
        for cell, image in enumerate(_cells(example, phrase, contenders)):
            image.thumbnail((_CELL_PX, _CELL_PX))
            sheet.paste(image, (left + cell * (_CELL_PX + _GAP_PX), top + _TEXT_PX))
    content = BytesIO()
    sheet.save(content, "PNG")
    write_bytes(path, content.getvalue())


def _cut(draw: ImageDraw.ImageDraw, phrase: str, width_px: int) -> str:
    """Return a phrase on one line, without its end where it is wider: beside it stands another row's."""
    line = spelled(" ".join(phrase.split()))
    if draw.textlength(line) <= width_px:
        return line
    fitting = range(len(line), 0, -1)
    return next(cut for n in fitting if draw.textlength(cut := f"{line[:n].rstrip()}...") <= width_px)


def _cells(example: ReferringExample, phrase: str, contenders: Sequence[Contender]) -> list[Image.Image]:
    picture, mask = example.read()
    cells = [picture.copy(), _shown(picture, np.array(mask) >= 128)]
    for one in contenders:
        evidence = at_size(one.localizer.evidence(picture, [phrase])[0], picture.width, picture.height)
        cells.append(_shown(picture, evidence >= one.threshold))
    return cells


def _shown(picture: Image.Image, mask: npt.NDArray[np.bool_]) -> Image.Image:
    share = np.where(mask, 1, _SHOWS_THROUGH)[..., None]
    return Image.fromarray((np.array(picture) * share + np.array(_OUTSIDE) * (1 - share)).astype(np.uint8))
