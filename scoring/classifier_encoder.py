"""A classifier as an encoder of pictures: the direction of its features as the vector, and their length."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from manifests.durable import sha256_of_json
from scoring.classifier import Classifier, load_classifier
from scoring.heads import write_head
from scoring.named_preprocessing import preprocessing_changes


@dataclass(frozen=True, eq=False)
class ClassifierEncoder:
    """What `curation.encoder.Encoder` asks for, which this package does not import, of a classifier.

    A vector times its length gives back the features, and with the head the logits: a store of these vectors holds
    what CLIP's does, similarities, and a second opinion too. The cosine of a vector and a row of the head is
    MaxCosine of DML (Zhang & Xiang, CVPR 2023).
    """

    classifier: Classifier

    @property
    def name(self) -> str:
        """Name of the model in timm."""
        return self.classifier.name

    @property
    def source(self) -> str:
        """``classifier``."""
        return "classifier"

    @property
    def digest(self) -> str:
        """16 hex digits over weights and preprocessing."""
        made_of = [self.classifier.weights_digest, self.classifier.preprocessing_record()]
        return sha256_of_json(made_of)[:16]

    @property
    def n_dimensions(self) -> int:
        """Number of features."""
        return self.classifier.head.n_features

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.classifier.head.device

    @property
    def input_px(self) -> int:
        """The shorter side before the centre is cut out."""
        preprocessing = self.classifier.preprocessing
        return round(preprocessing.input_size_px / preprocessing.crop_fraction)

    @property
    def pixels(self) -> Callable[[Image.Image], torch.Tensor]:
        """Makes the pixels that the network looks at, before these are normalised."""
        return self.classifier.preprocessing.pixel_bytes

    def encode(self, pixels: torch.Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return unit features (n, n_features) and their lengths (n,) of pixels, uint8 (n, 3, side, side).

        Features that are all zero have no direction: NaN.
        """
        preprocessing = self.classifier.preprocessing
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (preprocessing.mean, preprocessing.std)
        )
        inputs = pixels.to(self.device, non_blocking=True).float().div_(255).sub_(mean).div_(std)
        with torch.inference_mode():
            features = self.classifier.features(inputs).float()  # (n, n_features)
            norms = features.norm(dim=1)  # (n,)
            return (features / norms[:, None]).cpu().numpy(), norms.cpu().numpy()

    def head_rows(self) -> npt.NDArray[np.float32]:
        """Return the rows of the head made unit, (n_classes, n_features): the class prototypes."""
        return torch.nn.functional.normalize(self.classifier.head.weight).cpu().numpy()

    def save_head(self, folder: Path) -> None:
        """Write the head beside the vectors."""
        write_head(folder, self.classifier.head)


def load_classifier_encoder(
    model: str, checkpoint: Path | None, settings: Mapping[str, Any], device: str
) -> ClassifierEncoder:
    """Return a classifier of timm as an encoder.

    Parameters
    ----------
    model, checkpoint, device
        As `scoring.classifier.load_classifier` takes them.
    settings : mapping
        ``n_classes`` and ``model_arguments`` as that takes them, and ``preprocess``, as
        `scoring.named_preprocessing.preprocessing_changes` does: JSON values, which an embedding store keeps.
    """
    classifier = load_classifier(
        model,
        checkpoint=checkpoint,
        n_classes=settings["n_classes"],
        model_arguments=settings["model_arguments"],
        preprocessing=preprocessing_changes(settings["preprocess"], model),
        device=device,
    )
    return ClassifierEncoder(classifier)
