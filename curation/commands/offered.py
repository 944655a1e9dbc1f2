"""What commands of other packages need of this one: CLIP models, lists of ids, a world that networks learn in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.commands.summary import announce
from manifests.errors import InputError

if TYPE_CHECKING:
    from curation.clip import ClipEncoder


def check_clip(model: str, pretrained: str | None) -> None:
    """Check a model and its weights as `load_clip` would, as far as that takes no weights."""
    from curation.clip import checked_model

    checked_model(model, pretrained)


def check_templates(templates: str) -> None:
    """Refuse a prompt ensemble that open_clip does not have."""
    from curation.clip import TEMPLATE_SETS

    if templates not in TEMPLATE_SETS:
        raise InputError(f"--templates: expected {' or '.join(TEMPLATE_SETS)}, found {templates!r}")


def load_clip(model: str, pretrained: str | None, device: str) -> "ClipEncoder":
    """Return a CLIP model; arguments as `curation.clip.load_encoder` takes them."""
    from curation.clip import load_encoder

    return load_encoder(model, pretrained, device)


def imagenet_names() -> list[str]:
    """Return open_clip's names of the 1,000 ImageNet-1K classes, in torchvision's order."""
    from curation.clip import imagenet_class_names

    return imagenet_class_names()


def list_path(url: str, folder: Path | None) -> Path:
    """Return where a list that is named by its address lies, fetched or not."""
    from curation.list_files import list_path as path_of

    return path_of(url, folder)


def fetch_list(url: str, folder: Path | None, **settings: Any) -> Path:
    """Return a list that is named by its address, fetched; arguments as `curation.list_files` takes them."""
    from curation.list_files import fetch_list as fetch

    return fetch(url, folder, announce, **settings)


def draw_world(folder: Path, seed: int) -> tuple[Path, Path]:
    """Draw the sample's pictures to train on, and return their folder and that of the OOD set."""
    from curation.sample.training_world import draw_training_world

    return draw_training_world(folder, seed=seed)
