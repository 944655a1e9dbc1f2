"""How a network of DML+ is trained: the settings of the paper, and what may be changed in them."""

import hashlib
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from manifests.errors import InputError
from manifests.training_files import check_ranges

LOSSES = ("linear", "cosine", "mcf", "mnc")
"""Linear classifier with cross-entropy; cosine classifier with cross-entropy, with focal loss, and with
cross-entropy and center loss."""

CENTER_SCHEDULES = ("published", "scaled")
FOCAL_GRADIENTS = ("equation", "published")

LOSSES_THAT_TAKE = {
    "gamma": {"mcf"}, "focal_gradient": {"mcf"}, "scale": {"cosine", "mcf"}, "center_schedule": {"mnc"},
}  # fmt: skip
"""Of the settings that not every loss takes."""

_CENTER_WEIGHTS = ((0, 0.0), (60, 0.001), (80, 0.005))
_PUBLISHED_EPOCHS = 200
"""Weights of the center loss from these epochs on, of as many: the authors' code."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a training; the defaults are those of the paper on CIFAR.

    Attributes
    ----------
    loss : str
        One of `LOSSES`.
    network : str
        As `scoring.dml.networks.classifier_network` takes it.
    n_epochs, batch_size : int
        At least 1.
    learning_rate, momentum, weight_decay : float
        Of SGD; the learning rate follows a cosine to 0, changing with every epoch.
    dropout : float
        Of wide residual networks, in [0, 1).
    gamma : float
        Of the focal loss.
    focal_gradient : str
        ``equation``: of the focal loss as it is written; ``published``: with its weight (1 - p)^gamma a constant,
        as in the authors' code (see `scoring.dml.losses.focal_loss`).
    scale : float
        What cosines are multiplied with to be the logits of ``cosine`` and ``mcf``; ``mnc`` and ``linear`` have
        features as they are.
    center_schedule : str
        ``published``: the center loss counts from epoch 60, whatever their number; ``scaled``: from 30 %.
    seed : int
        Of the weights, the order of pictures, their crops and dropout.

    Raises
    ------
    InputError
        A setting is impossible, or the center loss would never count.

    References
    ----------
    Zhang and Xiang (2023), Decoupling MaxLogit for Out-of-Distribution Detection, and their code
    (github.com/Z-ZHHH/CVPR23-DML), from which gamma, the scale and the weights of the center loss are.
    """

    loss: str
    network: str = "wrn-40-2"
    n_epochs: int = _PUBLISHED_EPOCHS
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float = 0.3
    gamma: float = 2.0
    focal_gradient: str = "equation"
    scale: float = 40.0
    center_schedule: str = "published"
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "loss": (self.loss in LOSSES, f"one of {', '.join(LOSSES)}"),
            "n_epochs": (self.n_epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 2, "at least 2, as one picture has no variance to normalise by"),
            "learning_rate": (0 < self.learning_rate < math.inf, "above 0"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0"),
            "dropout": (0 <= self.dropout < 1, "in [0, 1)"),
            "gamma": (0 <= self.gamma < math.inf, "at least 0"),
            "focal_gradient": (self.focal_gradient in FOCAL_GRADIENTS, f"one of {', '.join(FOCAL_GRADIENTS)}"),
            "scale": (0 < self.scale < math.inf, "above 0"),
            "center_schedule": (self.center_schedule in CENTER_SCHEDULES, f"one of {', '.join(CENTER_SCHEDULES)}"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        check_ranges("training", self, ranges)
        if self.loss == "mnc" and self.center_weight(self.n_epochs - 1) == 0:
            if self.center_schedule == "scaled":
                raise InputError("training: mnc needs at least 2 epochs: the first is without a center loss")
            raise InputError(
                f"training: the published schedule has a center loss from epoch 60 on, and --epochs is "
                f"{self.n_epochs}: give --center-schedule scaled, which begins after 30 % of them"
            )

    @property
    def has_cosine_classifier(self) -> bool:
        """Whether the classifier is one of directions alone, without a bias."""
        return self.loss != "linear"

    @property
    def has_unit_features(self) -> bool:
        """Whether the loss sees the direction of features alone: logits are cosines times `scale`."""
        return self.loss in LOSSES_THAT_TAKE["scale"]

    def for_loss(self, loss: str) -> "Recipe":
        """Return the recipe of one loss: settings that it does not take are as by default.

        So a network goes on in its folder whatever was trained beside it.
        """
        unused: dict[str, Any] = {
            field.name: field.default
            for field in fields(self)
            if field.name in LOSSES_THAT_TAKE and loss not in LOSSES_THAT_TAKE[field.name]
        }
        return replace(self, loss=loss, **unused)

    def center_weight(self, epoch: int) -> float:
        """Return what the center loss counts in an epoch, counted from 0; nothing but ``mnc`` has one."""
        if self.loss != "mnc":
            return 0.0
        # Whole numbers on both sides: an epoch on the border must not depend on rounding.
        factor, position = (
            (1, epoch) if self.center_schedule == "published" else (self.n_epochs, epoch * _PUBLISHED_EPOCHS)
        )
        return max(weight for begin, weight in _CENTER_WEIGHTS if position >= begin * factor)

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0: half a cosine from `learning_rate` towards 0."""
        return self.learning_rate * (1 + math.cos(math.pi * epoch / self.n_epochs)) / 2

    def seed_of(self, purpose: str, epoch: int = 0) -> int:
        """Return the seed of one purpose in one epoch, so that no draw depends on what was drawn before it."""
        # By `manifests.draws.drawn_number`, every training whose figures were published would be another one.
        digest = hashlib.sha256(f"{self.seed}/{purpose}/{epoch}".encode()).digest()
        return int.from_bytes(digest[:7], "big")

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)
