"""Class prototypes from pictures: a folder of ImageNet images, a folder a class, and the mean of their vectors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curation.encoding import Encoding
from manifests.durable import sha256_of_file
from manifests.errors import InputError
from manifests.label_space import ClassName

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


@dataclass(frozen=True)
class Exemplar:
    """A picture that shows a class, in a folder of its own."""

    class_index: int
    path: Path
    rotation_deg: None = None
    sha256: None = None


@dataclass(frozen=True)
class ExemplarMeans:
    """Prototypes made of pictures.

    Attributes
    ----------
    prototypes : ndarray of float32, (n_classes, n_dimensions)
        The mean of the unit vectors of a class, made unit; all zero for a class without a picture.
    n_pictures : ndarray of int64, (n_classes,)
        Pictures of each class that took part.
    unreadable : dict of str to str
        By path below the folder, why others did not.
    """

    prototypes: npt.NDArray[np.float32]
    n_pictures: npt.NDArray[np.int64]
    unreadable: dict[str, str]


def find_exemplars(folder: Path, classes: Sequence[ClassName], most_a_class: int) -> list[Exemplar]:
    """Return pictures of the classes, by class and path.

    Parameters
    ----------
    folder : Path
        Holds a folder a class, named by its WordNet id or its class index; pictures may lie deeper in it. Folders
        of other names are passed over.
    classes : sequence of ClassName
        Give the WordNet ids.
    most_a_class : int
        Of more pictures, those whose names have the smallest SHA-256 are taken: a choice that depends on nothing
        else, and not the first, which in ImageNet come from one source.

    Raises
    ------
    InputError
        There is no such folder, or no picture of any class in it.
    """
    if not folder.is_dir():
        raise InputError(f"--exemplars {folder}: there is no such folder")
    index_of = _index_by_folder_name(classes)
    found: list[Exemplar] = []
    for class_dir in sorted(path for path in folder.iterdir() if path.is_dir() and path.name in index_of):
        paths = sorted(
            path for path in class_dir.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()
        )
        chosen = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())[:most_a_class]
        found += [Exemplar(index_of[class_dir.name], path) for path in sorted(chosen)]
    if not found:
        raise InputError(
            f"--exemplars {folder}: holds no picture of a class; expected folders named by WordNet id (n01440764, "
            "...) or by class index (0, 1, ...)"
        )
    return sorted(found, key=lambda exemplar: (exemplar.class_index, str(exemplar.path)))


def exemplars_digest(exemplars: Sequence[Exemplar]) -> str:
    """Return the SHA-256 of which class each picture is of and of their bytes, whatever they are called."""
    rows = sorted(f"{exemplar.class_index} {sha256_of_file(exemplar.path)}" for exemplar in exemplars)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def exemplar_means(
    exemplars: Sequence[Exemplar], folder: Path, n_classes: int, encoding: Encoding
) -> ExemplarMeans:
    """Return the mean direction of each class's pictures; whole pictures, as ImageNet's show one thing large.

    Parameters
    ----------
    exemplars : sequence of Exemplar
        Sorted by class.
    folder : Path
        That they lie in.
    n_classes : int
        Rows to return.
    encoding : Encoding
        Of whole pictures.
    """
    sums = np.zeros((n_classes, encoding.encoder.n_dimensions), np.float64)
    n_pictures = np.zeros(n_classes, np.int64)
    unreadable: dict[str, str] = {}
    for exemplar, views in encoding.run([exemplars]):
        if isinstance(views, str):
            unreadable[exemplar.path.relative_to(folder).as_posix()] = views
            continue
        sums[exemplar.class_index] += views.embeddings[0]
        n_pictures[exemplar.class_index] += 1
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    prototypes = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    return ExemplarMeans(prototypes.astype(np.float32), n_pictures, unreadable)


def _index_by_folder_name(classes: Sequence[ClassName]) -> Mapping[str, int]:
    by_index = {str(known.class_index): known.class_index for known in classes}
    return by_index | {known.wnid: known.class_index for known in classes if known.wnid}
