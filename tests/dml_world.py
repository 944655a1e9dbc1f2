"""Small data sets that a tiny network learns in a few steps: a folder, and files of CIFAR's layout; and how."""

import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from scoring.dml.recipe import Recipe

SIDE_PX = 32
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 230))

SHORT_RECIPE = Recipe(
    "mnc", network="tiny", n_epochs=4, batch_size=8, center_schedule="scaled", learning_rate=0.05
)


def pixels_of(class_index: int, number: int) -> np.ndarray:
    """A noisy picture of the colour of its class, uint8 (32, 32, 3)."""
    rng = np.random.default_rng([class_index, number])
    noise = rng.integers(-40, 40, (SIDE_PX, SIDE_PX, 3))
    return (np.array(COLOURS[class_index]) + noise).clip(0, 255).astype(np.uint8)


def write_folder(folder: Path, n_train: int = 8, n_val: int = 3) -> Path:
    """A data set with one sub-folder a class."""
    for part, n_pictures in (("train", n_train), ("val", n_val)):
        for class_index in range(len(COLOURS)):
            for number in range(n_pictures):
                path = folder / part / f"colour_{class_index}" / f"{part}_{class_index}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels_of(class_index, number + 100 * (part == "val"))).save(path)
    return folder


def rows_of(n_a_class: int, offset: int = 0) -> tuple[np.ndarray, list[int]]:
    """Pixels as CIFAR lays them out, uint8 (n, 3072), and labels."""
    labels = [number % len(COLOURS) for number in range(n_a_class * len(COLOURS))]
    pictures = [pixels_of(label, offset + number) for number, label in enumerate(labels)]
    return np.stack([picture.transpose(2, 0, 1).reshape(-1) for picture in pictures]), labels


def write_pickled_cifar100(folder: Path, protocol: int = 2) -> Path:
    """Files ``train`` and ``test`` of CIFAR-100's python version."""
    folder.mkdir(parents=True, exist_ok=True)
    for offset, name in enumerate(("train", "test")):
        pixels, labels = rows_of(4, 50 * offset)
        content = {b"data": pixels, b"fine_labels": labels, b"coarse_labels": labels, b"filenames": [b"a.png"]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return folder


def write_python2_cifar100(folder: Path) -> Path:
    """The same files as Python 2 wrote CIFAR-100's: texts and pixels are its byte strings.

    Written opcode by opcode, as no Python 3 writes byte strings so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for offset, name in enumerate(("train", "test")):
        pixels, labels = rows_of(4, 50 * offset)
        numbers = b"".join(b"K" + bytes([label]) for label in labels)
        names = b"".join(_python2_text(f"red_s_{number:06}.png".encode()) for number in range(len(labels)))
        array = b"".join([
            b"cnumpy.core.multiarray\n_reconstruct\n",
            b"cnumpy\nndarray\n", b"K\x00\x85", _python2_text(b"b"), b"\x87R",
            b"(K\x01", b"M", struct.pack("<H", len(pixels)), b"M\x00\x0c\x86",
            b"cnumpy\ndtype\n", _python2_text(b"u1"), b"K\x00K\x01\x87R",
            b"(K\x03", _python2_text(b"|"), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T", struct.pack("<i", pixels.nbytes), pixels.tobytes(), b"tb",
        ])  # fmt: skip
        entries = [
            (b"filenames", b"](" + names + b"e"), (b"batch_label", _python2_text(b"training batch 1 of 1")),
            (b"fine_labels", b"](" + numbers + b"e"), (b"coarse_labels", b"](" + numbers + b"e"), (b"data", array),
        ]  # fmt: skip
        content = b"".join(_python2_text(key) + value for key, value in entries)
        (folder / name).write_bytes(b"\x80\x02}(" + content + b"u.")
    return folder


def _python2_text(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text
