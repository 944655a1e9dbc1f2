import io
import random
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from manifests.errors import UnreadableImageError
from manifests.image_structure import image_structure
from manifests.images import MAX_PIXELS, decode_image, inspect_image, read_image
from tests.conftest import REPOSITORY
from tests.png_world import chunk, png_header_of


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


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", "not_an_image", "the file is empty"),
        (b"<html><body>gone</body></html>", "not_an_image", "the file starts with <html><body>gone"),
        (b"\x00\x01\x02" * 40, "not_an_image", "the file starts with"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(99), "not_an_image", "the file starts with RIFF"),
        (b"GIF88a" + bytes(99), "not_an_image", "the file starts with GIF88a"),
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


WHOLE = {
    "JPEG": encoded(quadrants()),
    "progressive JPEG": encoded(quadrants().resize((240, 160)), progressive=True),
    "PNG": encoded(quadrants(), "PNG"),
    "WEBP": encoded(quadrants(), "WEBP"),
    "lossless WEBP": encoded(quadrants(), "WEBP", lossless=True),
    "GIF": encoded(quadrants(), "GIF"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_picture_passes_with_the_size_that_pillow_reads(name):
    content = WHOLE[name]
    size = Image.open(io.BytesIO(content)).size
    assert inspect_image(content) == size
    structure = image_structure(content)
    assert (structure.width_px, structure.height_px, structure.end) == (*size, len(content))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("tail", [b"\x00", b"garbage", b"\xff\xd9", b"<script>alert(1)</script>" * 9])
def test_anything_after_the_end_is_refused_where_pictures_come_in(name, tail):
    with pytest.raises(UnreadableImageError, match=f"^undecodable: {len(tail)} bytes stand after the end"):
        inspect_image(WHOLE[name] + tail)


@pytest.mark.parametrize("name", WHOLE)
def test_a_picture_cut_off_anywhere_is_refused(name):
    content = WHOLE[name]
    for n_bytes in {*range(0, len(content), 7), len(content) - 1, len(content) - 2}:
        with pytest.raises(UnreadableImageError):
            inspect_image(content[:n_bytes])


def test_the_size_is_that_of_the_upright_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert (
        inspect_image(encoded(quadrants(), exif=exif))
        == decode_image(encoded(quadrants(), exif=exif)).size
        == (16, 24)
    )


def webp_canvas(width, height):
    canvas = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    body = b"WEBP" + canvas + WHOLE["WEBP"][12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_jpeg_size(width, height):
    content = bytearray(WHOLE["JPEG"])
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def with_gif_size(width, height):
    return WHOLE["GIF"][:6] + struct.pack("<HH", width, height) + WHOLE["GIF"][10:]


def png_with(*chunks):
    content = WHOLE["PNG"]
    return content[:33] + b"".join(chunks) + content[33:]


def compressed_text(n_bytes):
    return chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(n_bytes)))


def gif_with_comment(n_bytes):
    content = WHOLE["GIF"]
    start = 13 + 3 * (2 << (content[10] & 7))
    return content[:start] + b"\x21\xfe" + (b"\xff" + b"x" * 255) * (n_bytes // 255) + b"\x00" + content[start:]


def many_scans(n_scans):
    content = WHOLE["progressive JPEG"]
    first = content.index(b"\xff\xda")
    second = content.index(b"\xff\xda", first + 2)
    scan = content[first : content.rindex(b"\xff\xc4", first, second)]
    return content[:first] + scan * n_scans + content[first:]


def scanned(width, height, n_scans):
    """Return a JPEG whose header says so, with so many scans."""
    content = bytearray(many_scans(n_scans - WHOLE["progressive JPEG"].count(b"\xff\xda")))
    at = content.index(b"\xff\xc2") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


BOMBS = {
    "png": (png_header_of(20_000, 20_000), "too_large: 20000 x 20000 px"),
    "jpeg": (with_jpeg_size(20_000, 20_000), "too_large: 20000 x 20000 px"),
    "webp": (webp_canvas(16_000, 16_000), "too_large: 16000 x 16000 px"),
    "gif": (with_gif_size(65_000, 65_000), "too_large: 65000 x 65000 px"),
    "png texts": (png_with(*[compressed_text(1 << 20)] * 60), "too_large: over the cap of 16 compressed texts"),
    "png profile": (png_with(chunk(b"iCCP", b"icc\x00\x00" + zlib.compress(bytes(100 << 20)))), "undecodable"),
    "png text": (png_with(compressed_text(100 << 20)), "undecodable"),
    "metadata": (png_with(chunk(b"eXIf", bytes(9 << 20))), "too_large: over the cap of 8388608 bytes of metadata"),
    "gif comment": (gif_with_comment(8 << 20), "too_large: over the cap of 262144 bytes of metadata"),
    "scans": (many_scans(200), "too_large: over the cap of 100 scans"),
    "scanned pixels": (scanned(5000, 4000, 26), "too_large: over the cap of 500000000 px in all scans"),
    "parts": (png_with(*[chunk(b"IDAT", b"")] * 70_000), "too_large: over the cap of 65536 parts"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("read", [decode_image, inspect_image])
def test_a_bomb_is_refused_by_name(name, read):
    content, reason = BOMBS[name]
    with pytest.raises(UnreadableImageError, match=reason):
        read(content)


def test_a_bomb_of_50_kb_is_refused_within_100_ms_and_50_mb(tmp_path):
    pixels = zlib.compress(bytes(51_400_000), 9)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    assert 45_000 < len(bomb) < 55_000
    (tmp_path / "bomb.png").write_bytes(bomb)
    for name in ("png texts", "webp", "gif", "jpeg", "png profile"):
        (tmp_path / f"{name}.bomb").write_bytes(BOMBS[name][0])
    program = (
        "import resource, sys, time\n"
        "from pathlib import Path\n"
        "from manifests.errors import UnreadableImageError\n"
        "from manifests.images import inspect_image\n"
        "inspect_image(Path(sys.argv[1]).read_bytes())\n"
        "for path in sys.argv[2:]:\n"
        "    content = Path(path).read_bytes()\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    started = time.process_time()\n"
        "    try:\n"
        "        inspect_image(content)\n"
        "        sys.exit('accepted')\n"
        "    except UnreadableImageError:\n"
        "        seconds = time.process_time() - started\n"
        "        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    (tmp_path / "good.webp").write_bytes(WHOLE["WEBP"])
    bombs = sorted(str(path) for path in tmp_path.glob("*bomb*"))
    command = [sys.executable, "-c", program, str(tmp_path / "good.webp"), *bombs]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    figures = [line.split() for line in finished.stdout.splitlines()]
    assert len(figures) == 6
    assert max(float(seconds) for seconds, _ in figures) < 0.1
    assert max(int(kilobytes) for _, kilobytes in figures) < 50_000


def test_of_a_gif_of_many_frames_only_the_first_is_decoded():
    frames = [Image.new("L", (8, 8), shade % 256) for shade in range(3000)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames > 1000
    assert inspect_image(content) == (8, 8)
    assert decode_image(content).getpixel((4, 4)) == (0, 0, 0)


def test_threads_that_decode_at_once_leave_the_warning_filters_as_they_were():
    palette = Image.new("P", (8, 8), 1)
    content = encoded(palette, "PNG", transparency=bytes(range(256)))
    before = warnings.filters[:]
    with ThreadPoolExecutor(8) as pool:
        sizes = set(pool.map(lambda _: decode_image(content).size, range(400)))
    assert sizes == {(8, 8)}
    assert warnings.filters == before


def test_the_largest_picture_in_ten_scans_passes_and_takes_about_two_seconds():
    shades = np.random.default_rng(0).integers(0, 256, (700, 890, 3), np.uint8)
    content = encoded(Image.fromarray(shades).resize((7120, 7000)), progressive=True, quality=95)
    assert content.count(b"\xff\xda") == 10
    started = time.process_time()
    assert inspect_image(content) == (7120, 7000)
    assert time.process_time() - started < 4
