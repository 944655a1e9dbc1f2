"""Galleries of the images that methods get most wrong, with what they show and what the model took it for."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from manifests.errors import InputError
from manifests.label_space import read_label_space
from manifests.report.parts import Card, CardPicture, Gallery, Part, Table, Text
from manifests.workspace import Workspace
from scoring.report.extremes import ExtremeImage, Extremes, best_of_each_family, extremes_of
from scoring.report.scored_model import ScoredModel
from scoring.report.sources import (
    FeaturesFolder,
    PicturesOfSet,
    SeenClasses,
    find_features,
    find_pictures,
    seen_classes,
)

_NO_FEATURES = (
    "The features that were scored are no longer at hand, so that it is not known which class the model predicts."
)


@dataclass(frozen=True)
class _Known:
    """What the galleries of one model are made of."""

    model: ScoredModel
    pictures: Mapping[str, PicturesOfSet]
    seen: Mapping[tuple[str, str], SeenClasses]
    name_of: Callable[[int], str]


def gallery_parts(workspace: Workspace, model: ScoredModel) -> list[Part]:
    """Return the images that the best method of each family gets most wrong: those of each OOD set, and of ID.

    Where the pictures of a set are not at hand, a table stands in, with the reason.
    """
    extremes = [one for method in best_of_each_family(model.results) for one in extremes_of(model.results, method)]
    wanted: dict[str, set[str]] = defaultdict(set)
    for one in extremes:
        wanted[one.set_name] |= {image.image_id for image in one.images}
    features = find_features(workspace, model)
    seen, reasons = seen_classes(features, wanted) if features else ({}, {})
    notes = [f"Which classes the model predicts for {name} is not known: {why}." for name, why in reasons.items()]
    pictures = find_pictures(workspace, features.path.name if features else model.folder.name, wanted)
    known = _Known(model, pictures, seen, _class_names(workspace, features))
    return [
        *(Text(note, is_quiet=True) for note in (notes if features else [_NO_FEATURES])),
        *(_shown(one, known) for one in extremes),
    ]


def _shown(extremes: Extremes, known: _Known) -> Part:
    of_set = known.pictures[extremes.set_name]
    if of_set.pictures:
        cards = [_card(image, extremes, known) for image in extremes.images]
        return Gallery(_name(extremes), cards, _caption(extremes, known.model))
    classes = [_classes(image, extremes, known) for image in extremes.images]
    shown = [place for place in (0, 1) if any(words[place] for words in classes)]
    return Table(
        header=("image", "score", "where it lies", *(("predicted class", "own class")[place] for place in shown)),
        rows=[
            (
                image.image_id,
                f"{image.ood_score:.4g}",
                _place(image, known.model),
                *(words[place] for place in shown),
            )
            for image, words in zip(extremes.images, classes, strict=True)
        ],
        caption=f"{_name(extremes)}. {_caption(extremes, known.model)} No pictures: {of_set.reason}",
        numeric=frozenset({1}),
    )


def _name(extremes: Extremes) -> str:
    looks = "ID images that look most OOD" if extremes.is_in else "OOD images that look most in-distribution"
    return f"{extremes.method.title}: {looks} ({extremes.set_name})"


def _caption(extremes: Extremes, model: ScoredModel) -> str:
    n_images = len(model.results.image_ids[extremes.set_name])
    order = "highest" if extremes.is_in else "lowest"
    shown = f"The {len(extremes.images)} of {n_images:,} images with the {order} score, {order} first."
    if extremes.is_in:
        return shown
    fpr95_in = model.results.metrics[extremes.method.name, extremes.set_name]["fpr95_in"].value
    n_let_through = round(fpr95_in * n_images)
    return f"{shown} Where 95 % of ID images are kept, {n_let_through:,} of these are let through."


def _card(image: ExtremeImage, extremes: Extremes, known: _Known) -> Card:
    found = known.pictures[extremes.set_name].pictures.get(image.image_id)
    # A picture that is not among those of its set: the page says that it is not there.
    path = known.model.folder / "absent" if found is None else found.path
    rotation_deg = None if found is None else found.rotation_deg
    predicted, own = _classes(image, extremes, known)
    lines = [image.image_id, f"score {image.ood_score:.4g}: {_place(image, known.model)}"]
    if predicted:
        lines.append(f"predicted: {predicted}")
    if own:
        lines.append(f"its class: {own}")
    return Card([CardPicture(path, image.image_id, rotation_deg)], lines)


def _place(image: ExtremeImage, model: ScoredModel) -> str:
    """Return where a score lies among those of the ID images, in words."""
    n_in = len(model.results.image_ids[model.results.val])
    percent = 100 * image.n_in_below / n_in
    # All but one of 50,000 are not 100 %.
    n_digits = 1 if 0.05 <= percent < 99.95 or image.n_in_below in (0, n_in) else 3
    return f"above {image.n_in_below:,} of {n_in:,} ID images ({percent:.{n_digits}f} %)"


def _classes(image: ExtremeImage, extremes: Extremes, known: _Known) -> tuple[str, str]:
    """Return the predicted class and the image's own, each empty where unknown."""
    seen = known.seen.get((extremes.set_name, image.image_id))
    if seen is None:
        return "", ""
    return known.name_of(seen.predicted), "" if seen.class_index is None else known.name_of(seen.class_index)


def _class_names(workspace: Workspace, features: FeaturesFolder | None) -> Callable[[int], str]:
    """Return what calls a class by its name, where the workspace's classes are as many as the model's."""
    names: list[str] = []
    if features is not None and workspace.classes_path.is_file():
        try:
            names = [known.name for known in read_label_space(workspace.classes_path)]
        except InputError:
            names = []
    if features is None or len(names) != features.head.n_classes:
        return lambda class_index: f"class {class_index}"
    return lambda class_index: f"{names[class_index]} ({class_index})"
