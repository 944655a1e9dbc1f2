"""The features that a trained network has of its own data and of OOD sets, as `score` reads them."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import torch

from manifests.errors import InputError, UnreadableImageError
from manifests.images import read_image
from manifests.schema import OOD_LABEL
from manifests.workspace import checked_name
from scoring.dml.cifar import is_cifar, read_cifar
from scoring.dml.data import LabelledPixels, TrainingData, cifar_pixels
from scoring.dml.svhn import read_svhn, svhn_file
from scoring.dml.trained import TrainedNetwork, write_pixel_features
from scoring.extract import extract_features
from scoring.pictures import PictureSource, pictures_in_folder

TRAIN, VAL = "train", "val"

OodSets = Mapping[str, LabelledPixels | PictureSource]
"""Pictures by the name of the set."""


def read_ood_sets(folders: Mapping[str, Path]) -> OodSets:
    """Return the pictures of OOD sets: those of a folder, or the test part of CIFAR's or SVHN's files in it.

    Raises
    ------
    InputError
        A name is no name of a set, or that of an ID set; a folder holds no picture that can be read, or CIFAR's or
        SVHN's files are damaged.
    """
    sets: dict[str, LabelledPixels | PictureSource] = {}
    for name, folder in folders.items():
        if checked_name(name, "--ood") in (TRAIN, VAL):
            raise InputError(f"--ood {name}: this is the name of an in-distribution set; choose another")
        sets[name] = _ood_pictures(folder)
    return sets


def check_sides(data: TrainingData, ood_sets: OodSets) -> None:
    """Refuse OOD sets whose pixels, which are not of files, are not as many as those of `data`.

    Raises
    ------
    InputError
        A set has another side.
    """
    expected = data.preprocessing.input_size_px
    for name, pictures in ood_sets.items():
        if isinstance(pictures, LabelledPixels) and (side := pictures.pixels.shape[-1]) != expected:
            raise InputError(f"--ood {name}: its pictures have {side} px, those of {data.name} {expected}")


def _ood_pictures(folder: Path) -> LabelledPixels | PictureSource:
    if is_cifar(folder):
        return cifar_pixels(read_cifar(folder, "test"))
    if (path := svhn_file(folder)) is None:
        source = pictures_in_folder(folder)
        _check_readable(source, folder)
        return source
    pixels = torch.from_numpy(read_svhn(path))
    image_ids = tuple(f"svhn_{path.stem}_{number:05}" for number in range(len(pixels)))
    return LabelledPixels(image_ids, torch.full((len(pixels),), OOD_LABEL), pixels)


def _check_readable(source: PictureSource, folder: Path) -> None:
    """Refuse a set none of whose pictures can be read: it would be found out after the training."""
    for picture in source.pictures:
        with contextlib.suppress(UnreadableImageError):
            read_image(picture.path, picture.rotation_deg)
            return
    raise InputError(f"{folder}: none of its {len(source.pictures):,} pictures can be read")


def write_feature_folder(
    model: TrainedNetwork, data: TrainingData, ood_sets: OodSets, features_dir: Path, *, batch_size: int
) -> tuple[str, ...]:
    """Return the names of the sets ``train``, ``val`` and the OOD sets after writing their features and the head.

    What earlier runs wrote of the same pictures by the same model is left as it is.

    Raises
    ------
    FeatureError
        The folder holds features of another model, or a feature is NaN or infinite.
    """
    sets: dict[str, LabelledPixels | PictureSource] = {TRAIN: data.train, VAL: data.val, **ood_sets}
    for name, pictures in sets.items():
        found = pictures.source or pictures if isinstance(pictures, LabelledPixels) else pictures
        if isinstance(found, PictureSource):
            extract_features(found, model, set_name=name, features_dir=features_dir, batch_size=batch_size)
        else:
            write_pixel_features(
                found,
                model,
                set_name=name,
                features_dir=features_dir,
                batch_size=batch_size,
                has_classes=name not in ood_sets,
            )
    return tuple(sets)
