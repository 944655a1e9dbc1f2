"""Made-up photographs for the tests of duplicates: smooth, of many sizes of detail, no two alike."""

import io

import numpy as np
from PIL import Image


def photograph(seed, size=(320, 240)):
    """Return a picture of coloured noise at five scales, the coarser the stronger, as light has it."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((size[1], size[0], 3))
    for cells, weight in ((3, 60), (6, 50), (12, 40), (24, 25), (48, 12)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        pixels += weight * (np.asarray(noise.resize(size, Image.Resampling.BICUBIC), float) / 127.5 - 1)
    return Image.fromarray(np.clip(128 + pixels, 0, 255).astype(np.uint8))


def jpeg(image, quality=90, **options):
    """Return the picture as the bytes of a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, **options)
    return stream.getvalue()
