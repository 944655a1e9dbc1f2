"""What a network is trained on: labelled pictures of a folder or of CIFAR, as pixels in memory."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from manifests.ahead import prepared_ahead
from manifests.errors import InputError, UnreadableImageError
from manifests.images import read_image
from manifests.stage_progress import ProgressBar
from scoring.classifier import Preprocessing
from scoring.dml import cifar
from scoring.pictures import Picture, PictureSource, pictures_in_folder

_CIFAR_MEAN, _CIFAR_STD = (0.492, 0.482, 0.446), (0.247, 0.244, 0.262)
"""Of CIFAR's pictures, in the authors' code."""

_HALF = (0.5, 0.5, 0.5)
_MOST_BYTES = 32 << 30
_N_WORKERS = 2
_N_AHEAD = 64


@dataclass(frozen=True, eq=False)
class LabelledPixels:
    """Pictures of one part, as they are before they become float.

    Attributes
    ----------
    image_ids : tuple of str
        (n,).
    targets : Tensor
        Class indices, int64, (n,).
    pixels : Tensor
        uint8, (n, 3, side, side).
    source : PictureSource, optional
        The files, where they were files.
    """

    image_ids: tuple[str, ...]
    targets: torch.Tensor
    pixels: torch.Tensor
    source: PictureSource | None = None

    def sha256(self) -> str:
        """Return the SHA-256 of ids, classes and pixels."""
        digest = hashlib.sha256("\n".join(self.image_ids).encode())
        digest.update(self.targets.numpy().tobytes())
        digest.update(self.pixels.numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A data set to train on.

    Attributes
    ----------
    name : str
        ``cifar10``, ``cifar100``, or the name of the folder.
    train, val : LabelledPixels
        To learn from, and to see what was learnt.
    n_classes : int
        At least 2, each with a picture to learn from.
    preprocessing : Preprocessing
        How a picture becomes pixels of this kind.
    """

    name: str
    train: LabelledPixels
    val: LabelledPixels
    n_classes: int
    preprocessing: Preprocessing

    def __post_init__(self) -> None:
        counts = torch.bincount(self.train.targets, minlength=self.n_classes)
        if self.n_classes < 2:
            raise InputError(f"{self.name}: all training pictures are of one class; expected at least two classes")
        if missing := (counts == 0).nonzero().flatten().tolist():
            raise InputError(
                f"{self.name}: {len(missing)} of {self.n_classes} classes have no training picture, class "
                f"{missing[0]} among them"
            )
        if (largest := int(self.val.targets.max())) >= self.n_classes:
            raise InputError(
                f"{self.name}: a validation picture is of class {largest}, which no training picture is of"
            )

    @functools.cached_property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of either part."""
        return {"train": self.train.sha256(), "val": self.val.sha256()}


def read_training_data(folder: Path, *, side_px: int | None = None) -> TrainingData:
    """Return the training and validation pictures of a folder.

    Parameters
    ----------
    folder : Path
        In CIFAR's layout (see `scoring.dml.cifar.read_cifar`); or with ``train/`` and ``val/``, where
        ``train_labels.csv`` and ``val_labels.csv`` beside them tell the classes (``file,class_index``) or, where
        these are not there, one sub-folder a class does, numbered in the order of their names as torchvision does.
    side_px : int, optional
        Side of the pixels that pictures of files are read at; 32 where not given. CIFAR's have 32.

    Raises
    ------
    InputError
        The folder is neither, a picture has no class or cannot be read, there is one class only, or the pixels
        would not fit into 32 GiB.
    """
    check_layout(folder)
    preprocessing = preprocessing_of(folder, side_px=side_px)
    if cifar.is_cifar(folder):
        return _cifar_data(folder, preprocessing)
    class_names = _class_names(folder / "train")
    train, val = (_folder_part(folder, part, class_names, preprocessing) for part in ("train", "val"))
    return TrainingData(folder.resolve().name, train, val, int(train.targets.max()) + 1, preprocessing)


def check_layout(folder: Path) -> None:
    """Refuse a folder that is laid out neither as CIFAR nor with ``train/`` and ``val/``. No picture is read.

    Raises
    ------
    InputError
        It is so, or is not there.
    """
    if not folder.is_dir():
        raise InputError(f"--data {folder}: no such folder")
    if not (cifar.is_cifar(folder) or ((folder / "train").is_dir() and (folder / "val").is_dir())):
        raise InputError(
            f"--data {folder}: expected the folders train and val, or the files of CIFAR (train and test, "
            f"data_batch_1 to 5 and test_batch, as pickles or .bin)"
        )


def preprocessing_of(folder: Path, *, side_px: int | None = None) -> Preprocessing:
    """Return how pictures of a folder become pixels; parameters as `read_training_data`. No picture is read.

    Raises
    ------
    InputError
        The side is not possible, or not that of CIFAR's pictures.
    """
    if cifar.is_cifar(folder):
        if side_px not in (None, cifar.SIDE_PX):
            raise InputError(f"--side: {folder}: CIFAR's pictures have {cifar.SIDE_PX} px, asked for {side_px}")
        return Preprocessing(cifar.SIDE_PX, _CIFAR_MEAN, _CIFAR_STD, "bilinear", 1.0)
    return Preprocessing(cifar.SIDE_PX if side_px is None else side_px, _HALF, _HALF, "bilinear", 1.0)


def cifar_pixels(part: cifar.CifarPart) -> LabelledPixels:
    """Return a part of CIFAR, each picture with its number as id."""
    image_ids = tuple(f"{part.name}_{number:05}" for number in range(len(part.targets)))
    # Copied, as an array that is a view of a file's bytes may not be written to, which torch warns of.
    return LabelledPixels(image_ids, torch.from_numpy(part.targets.copy()), torch.from_numpy(part.pixels.copy()))


def _cifar_data(folder: Path, preprocessing: Preprocessing) -> TrainingData:
    train, val = (cifar_pixels(cifar.read_cifar(folder, part)) for part in ("train", "test"))
    data_set = train.image_ids[0].partition("_")[0]
    return TrainingData(data_set, train, val, int(train.targets.max()) + 1, preprocessing)


def _class_names(train_dir: Path) -> list[str]:
    return sorted(path.name for path in train_dir.iterdir() if path.is_dir() and not path.name.startswith("."))


def _folder_part(folder: Path, part: str, class_names: list[str], preprocessing: Preprocessing) -> LabelledPixels:
    labels_path = folder / f"{part}_labels.csv"
    if labels_path.is_file():
        source = pictures_in_folder(folder / part, labels_path=labels_path)
    else:
        source = _with_folder_classes(pictures_in_folder(folder / part), folder / part, class_names)
    if unlabelled := [picture for picture in source.pictures if picture.class_index is None]:
        raise InputError(f"{unlabelled[0].path}: has no class in {labels_path.name}; {len(unlabelled)} have none")
    n_bytes = len(source.pictures) * 3 * preprocessing.input_size_px**2
    if n_bytes > _MOST_BYTES:
        raise InputError(
            f"{folder / part}: {len(source.pictures)} pictures of {preprocessing.input_size_px} px take "
            f"{n_bytes >> 30} GiB of memory, more than {_MOST_BYTES >> 30}; choose a smaller side"
        )
    targets = torch.tensor([picture.class_index for picture in source.pictures])
    image_ids = tuple(picture.image_id for picture in source.pictures)
    return LabelledPixels(image_ids, targets, _pixels_of(source, part, preprocessing), source)


def _with_folder_classes(source: PictureSource, part_dir: Path, class_names: list[str]) -> PictureSource:
    index_of = {name: index for index, name in enumerate(class_names)}
    pictures = []
    for picture in source.pictures:
        name = picture.path.relative_to(part_dir).parts[0]
        if name not in index_of:
            raise InputError(
                f"{picture.path}: expected it in the folder of a class, one of {len(class_names)} below train/, "
                f"or a table {part_dir.name}_labels.csv beside {part_dir}"
            )
        pictures.append(replace(picture, class_index=index_of[name]))
    return replace(source, pictures=tuple(pictures))


def _pixels_of(source: PictureSource, part: str, preprocessing: Preprocessing) -> torch.Tensor:
    """Return the pixels of all pictures, uint8 (n, 3, side, side)."""

    def read(picture: Picture) -> torch.Tensor:
        try:
            return preprocessing.pixel_bytes(read_image(picture.path))
        except UnreadableImageError as error:
            raise InputError(f"{picture.path}: cannot be trained on ({error}); delete it or mend it") from error

    side = preprocessing.input_size_px
    pixels = torch.empty(len(source.pictures), 3, side, side, dtype=torch.uint8)
    with ProgressBar(len(pixels), f"read {part}") as progress:
        made = prepared_ahead(read, source.pictures, n_workers=_N_WORKERS, n_ahead=_N_AHEAD)
        for row, (_, found) in enumerate(made):
            pixels[row] = found
            progress.update()
    return pixels
