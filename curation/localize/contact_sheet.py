"""A picture of what localizers answer: one row a phrase, to be looked at."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from curation.localize.evaluate import at_size
from curation.localize.localizer import Localizer
from curation.localize.referring_set import ReferringExample
from manifests.durable import write_bytes

_CELL_PX = 128
_TEXT_PX = 16
_GAP_PX = 6
_PER_ROW = 2
_OUTSIDE = 0.25
"""How bright a picture stays outside of a mask."""


def write_contact_sheet(
    path: Path, examples: Sequence[ReferringExample], localizers: Sequence[tuple[Localizer, float]]
) -> None:
    """Write a PNG: for each example's last phrase the picture, the true mask, and each localizer's mask.

    Parameters
    ----------
    path : Path
        The file.
    examples : sequence of ReferringExample
        Two a row.
    localizers : sequence of pairs of Localizer and float
        Each with the evidence from which on a place counts as named.
    """
    n_rows = -(-len(examples) // _PER_ROW)
    width = _PER_ROW * ((2 + len(localizers)) * (_CELL_PX + _GAP_PX) + 2 * _GAP_PX)
    sheet = Image.new("RGB", (width, n_rows * (_CELL_PX + _TEXT_PX + _GAP_PX)), "white")
    for place, example in enumerate(examples):
        row, column = divmod(place, _PER_ROW)
        top, left = row * (_CELL_PX + _TEXT_PX + _GAP_PX), column * (width // _PER_ROW)
        phrase = example.phrases[-1]
        ImageDraw.Draw(sheet).text((left, top), phrase, fill="black")
        for cell, image in enumerate(_cells(example, phrase, localizers)):
            image.thumbnail((_CELL_PX, _CELL_PX))
            sheet.paste(image, (left + cell * (_CELL_PX + _GAP_PX), top + _TEXT_PX))
    content = BytesIO()
    sheet.save(content, "PNG")
    write_bytes(path, content.getvalue())


def _cells(
    example: ReferringExample, phrase: str, localizers: Sequence[tuple[Localizer, float]]
) -> list[Image.Image]:
    picture, mask = example.read()
    cells = [picture.copy(), _lit(picture, np.array(mask) >= 128)]
    for localizer, threshold in localizers:
        evidence = at_size(localizer.evidence(picture, [phrase])[0], picture.width, picture.height)
        cells.append(_lit(picture, evidence >= threshold))
    return cells


def _lit(picture: Image.Image, mask: npt.NDArray[np.bool_]) -> Image.Image:
    pixels = np.array(picture) * np.where(mask, 1, _OUTSIDE)[..., None]
    return Image.fromarray(pixels.astype(np.uint8))
