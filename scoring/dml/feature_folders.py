"""The features that a trained network has of its own data and of OOD sets, as `score` reads them."""

from collections.abc import Mapping
from pathlib import Path

from manifests.errors import InputError
from manifests.workspace import checked_name
from scoring.dml.cifar import is_cifar, read_cifar
from scoring.dml.data import LabelledPixels, TrainingData, cifar_pixels
from scoring.dml.trained import TrainedNetwork, write_pixel_features
from scoring.extract import extract_features
from scoring.pictures import PictureSource, pictures_in_folder

TRAIN, VAL = "train", "val"

OodSets = Mapping[str, LabelledPixels | PictureSource]
"""Pictures by the name of the set."""


def read_ood_sets(folders: Mapping[str, Path]) -> OodSets:
    """Return the pictures of OOD sets: those of a folder, or the test part of a folder in CIFAR's layout.

    Raises
    ------
    InputError
        A name is no name of a set, or that of an ID set; a folder holds no picture, or CIFAR's files are damaged.
    """
    sets: dict[str, LabelledPixels | PictureSource] = {}
    for name, folder in folders.items():
        if checked_name(name, "--ood") in (TRAIN, VAL):
            raise InputError(f"--ood {name}: this is the name of an in-distribution set; choose another")
        is_of_cifar = is_cifar(folder)
        sets[name] = cifar_pixels(read_cifar(folder, "test")) if is_of_cifar else pictures_in_folder(folder)
    return sets


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
