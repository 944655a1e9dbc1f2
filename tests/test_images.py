import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from manifests.errors import UnreadableImageError
from manifests.images import MAX_PIXELS, decode_image, read_image


def encoded(image, image_format="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def quadrants():
    """Red, green / blue, white: every turn of it looks different."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:], pixels[8:, :12], pixels[8:, 12:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 255
    return Image.fromarray(pixels)


def corners(image):
    pixels = np.asarray(image).astype(int)
    names = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}
    at = [pixels[2, 2], pixels[2, -3], pixels[-3, 2], pixels[-3, -3]]
    return "".join(names[tuple(int(value > 127) for value in pixel)] for pixel in at)


def png_header_of(width, height):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", "not_an_image", "the file is empty"),
        (b"<html><body>gone</body></html>", "not_an_image", "the file starts with <html><body>gone"),
        (b"\x00\x01\x02" * 40, "not_an_image", "the file starts with"),
        (encoded(quadrants().resize((240, 160)))[:-900], "undecodable", "truncated"),
        (encoded(quadrants())[:4] + b"\xff" * 300, "undecodable", "cannot be decoded"),
        (encoded(quadrants(), "PNG")[:60], "undecodable", "cannot be decoded"),
        (png_header_of(20_000, 20_000), "too_large", f"over the cap of {MAX_PIXELS} px"),
        (png_header_of(8_000, 7_000), "too_large", f"8000 x 7000 px is over the cap of {MAX_PIXELS} px"),
        (encoded(quadrants(), "BMP"), "not_an_image", "the file starts with BM"),
    ],
)
def test_a_bad_file_is_refused_with_status_and_reason(content, status, reason):
    with pytest.raises(UnreadableImageError, match=reason) as refusal:
        decode_image(content)
    assert refusal.value.status == status


def test_a_refusal_reads_the_same_on_every_run():
    reasons = set()
    for _ in range(3):
        with pytest.raises(UnreadableImageError) as refusal:
            decode_image(b"GIF89a" + b"\x00" * 50)
        reasons.add(refusal.value.reason)
    assert len(reasons) == 1
    assert "0x" not in reasons.pop()


@pytest.mark.parametrize(("rotation_deg", "expected"), [(0, "rgbw"), (90, "gwrb"), (180, "wbgr"), (270, "brwg")])
def test_open_images_rotation_turns_counterclockwise(rotation_deg, expected):
    assert corners(decode_image(encoded(quadrants(), quality=95), rotation_deg)) == expected


def test_exif_orientation_is_applied_and_gives_way_to_a_known_rotation():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    content = encoded(quadrants(), quality=95, exif=exif)
    assert corners(decode_image(content)) == "brwg"
    assert corners(decode_image(content, 0)) == "brwg"
    assert corners(decode_image(content, 90)) == "gwrb"


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA", "1", "I;16"])
def test_every_mode_becomes_the_rgb_that_a_person_sees(mode):
    grey = Image.new("L", (8, 8), 200)
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 200 * 257, np.uint16))
    elif mode == "1":
        image = Image.new("1", (8, 8), 1)
    else:
        image = grey.convert("RGB").convert(mode) if mode != "LA" else grey.convert("LA")
    content = encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    pixel = decode_image(content).getpixel((4, 4))
    expected = 255 if mode == "1" else 200
    assert all(abs(value - expected) <= 5 for value in pixel)


def test_a_damaged_exif_block_never_raises_anything_of_its_own():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F], exif[0x829A] = "maker", 0.5
    good = encoded(quadrants(), exif=exif)
    draws = random.Random(0)
    refused = 0
    for _ in range(4000):
        content = bytearray(good)
        for _ in range(draws.randint(1, 4)):
            content[draws.randint(6, 120)] = draws.randint(0, 255)
        try:
            decode_image(bytes(content))
        except UnreadableImageError:
            refused += 1
    assert 0 < refused < 4000


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert decode_image(encoded(image, "PNG")).getpixel((4, 4)) == (255, 255, 255)


def test_of_an_animation_the_first_frame_is_read():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(content).getpixel((4, 4)) == (255, 0, 0)


def test_a_missing_file_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImageError, match="cannot be read \\(No such file"):
        read_image(tmp_path / "none.jpg")
