"""What commands of other packages need of this one: models of timm, as command lines name them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoring.classifier_encoder import ClassifierEncoder


def check_named_classifier(model: str, checkpoint: Path | None, settings: Mapping[str, Any]) -> None:
    """Check a model's arguments as its stage would, as far as that takes no weights: a dry run ends there."""
    from scoring.classifier import check_classifier
    from scoring.named_preprocessing import preprocessing_changes

    check_classifier(
        model, checkpoint=checkpoint, n_classes=settings["n_classes"],
        model_arguments=settings["model_arguments"],
        preprocessing=preprocessing_changes(settings["preprocess"], model),
    )  # fmt: skip


def load_named_classifier(
    model: str, checkpoint: Path | None, settings: Mapping[str, Any], device: str
) -> "ClassifierEncoder":
    """Return a model as an encoder; arguments as `scoring.classifier_encoder.load_classifier_encoder` takes them.

    This can be pickled, for a machine that loads the model again.
    """
    from scoring.classifier_encoder import load_classifier_encoder

    return load_classifier_encoder(model, checkpoint, settings, device)
