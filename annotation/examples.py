"""Example pictures of the in-distribution classes, one a class, from a folder that the user gives."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from manifests.errors import InputError
from manifests.label_space import ClassName

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")


def find_examples(
    examples_dir: Path, class_indices: Iterable[int], class_names: Mapping[int, ClassName]
) -> dict[int, Path]:
    """Return one example picture by class index, for those classes that have one.

    Parameters
    ----------
    examples_dir : Path
        Holds a folder of pictures for a class, named by its class index or its WordNet id; the first picture
        by name is taken.
    class_indices : iterable of int
        The classes wanted.
    class_names : mapping of int to ClassName
        Gives the WordNet ids.

    Raises
    ------
    InputError
        The folder is not there, or holds no picture for any class wanted.
    """
    if not examples_dir.is_dir():
        raise InputError(f"{examples_dir}: expected a folder of example pictures, found none")
    found: dict[int, Path] = {}
    for class_index in sorted(set(class_indices)):
        wnid = class_names[class_index].wnid if class_index in class_names else None
        for folder_name in filter(None, (str(class_index), wnid)):
            picture = _first_picture(examples_dir / folder_name)
            if picture is not None:
                found.setdefault(class_index, picture)
    if not found:
        raise InputError(
            f"{examples_dir}: holds no picture for any class shown; expected folders named by class index "
            "(0, 1, ...) or by WordNet id (n01440764, ...)"
        )
    return found


def _first_picture(folder: Path) -> Path | None:
    if not folder.is_dir():
        return None
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    return pictures[0].resolve() if pictures else None
