"""Small data sets that a tiny network learns in a few steps: a folder, and files of CIFAR's layout."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

SIDE_PX = 32
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 230))


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
