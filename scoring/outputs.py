"""What is known of some images when they are scored: their features, and what the head makes of them."""

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

from manifests.errors import FeatureError
from scoring.heads import Head

_LEAST_FLOAT32_SUM = 1e-25
"""Float32 exponentials lose digits below 1e-38 and vanish below 1e-45: a sum of them that is smaller than this is
taken in float64."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """Features of some images and, computed when first asked for and then kept, what methods share.

    Attributes
    ----------
    head : Head
        On the device to compute on.
    features : Tensor
        Penultimate features x, float32, (n, n_features), on the same device.
    second_norm : Tensor, optional
        Norms of the features that a second model has of the same images, float64, (n,), on the same device: all
        that a method of two models takes of the second.
    """

    head: Head
    features: torch.Tensor
    second_norm: torch.Tensor | None = None
    _remembered: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.features)

    @functools.cached_property
    def logits(self) -> torch.Tensor:
        """The logits l = W x + b, float32, (n, n_classes)."""
        return self.head.logits(self.features)

    @functools.cached_property
    def _top(self) -> Any:
        return self.logits.max(dim=1)

    @property
    def top_logit(self) -> torch.Tensor:
        """max_c l_c, float32, (n,)."""
        return self._top.values

    @property
    def predicted(self) -> torch.Tensor:
        """argmax_c l_c, int64, (n,)."""
        return self._top.indices

    @functools.cached_property
    def _gaps(self) -> torch.Tensor:
        """l_c - max_c l_c, float32, (n, n_classes), at most 0: the difference of two floats, hardly rounded."""
        return self.logits - self.top_logit[:, None]

    @functools.cached_property
    def _ratios_and_others(self) -> tuple[torch.Tensor, torch.Tensor]:
        """exp(l_c - max_c l_c), float32 (n, n_classes), and its sum without the predicted class, float64 (n,)."""
        ratios = self._gaps.exp()
        # Summed apart from the 1 of the predicted class, in which the others of a confident image would vanish.
        ratios.scatter_(1, self.predicted[:, None], 0.0)
        # Torch sums pairwise, right to 2e-7; a sum in float64 would write a copy of the ratios first.
        others = ratios.sum(dim=1).double()
        saturated = (others < _LEAST_FLOAT32_SUM).nonzero().flatten()
        if len(saturated):
            exact = self._gaps[saturated].double().exp_().scatter_(1, self.predicted[saturated, None], 0.0)
            others[saturated] = exact.sum(dim=1)
        return ratios.scatter_(1, self.predicted[:, None], 1.0), others

    @functools.cached_property
    def log_sum_exp(self) -> torch.Tensor:
        """The log of sum_c exp(l_c), float64, (n,)."""
        return self.top_logit.double() + self._ratios_and_others[1].log1p()

    @functools.cached_property
    def other_probability(self) -> torch.Tensor:
        """1 - max_c p_c, float64, (n,), without the cancellation."""
        others = self._ratios_and_others[1]
        return others / (1 + others)

    @functools.cached_property
    def probabilities(self) -> torch.Tensor:
        """The softmax p of the logits, float32, (n, n_classes); below 1e-45 it is 0."""
        ratios, others = self._ratios_and_others
        # In their place, as nothing else reads them and the room is large.
        return ratios.div_((1 + others).float()[:, None])

    @functools.cached_property
    def negative_entropy(self) -> torch.Tensor:
        """The sum over classes of p_c log p_c, float64, (n,), at most 0."""
        # log p_c = (l_c - max l) - log sum exp(l - max l), and p sums to 1: no logarithm of each p, and none of 0.
        # Of a confident image both parts are small, and so is their rounding.
        return torch.linalg.vecdot(self.probabilities, self._gaps).double() - self._ratios_and_others[1].log1p()

    @functools.cached_property
    def feature_norm(self) -> torch.Tensor:
        """norm(x), float64, (n,)."""
        return torch.linalg.vector_norm(self.features, dim=1, dtype=torch.float64)

    def norm_of_second_model(self) -> torch.Tensor:
        """Return `second_norm`, float64, (n,).

        Raises
        ------
        FeatureError
            There is no second model.
        """
        if self.second_norm is None:
            raise FeatureError("takes the features of two models: name the second's (--second-features DIR)")
        return self.second_norm

    @functools.cached_property
    def feature_sum(self) -> torch.Tensor:
        """norm_1(x), the sum of absolute features, float64, (n,)."""
        return self.features.abs().sum(dim=1).double()

    @functools.cached_property
    def unit_features(self) -> torch.Tensor:
        """The features over their norm, x / norm(x), float32, (n, n_features); a feature of zeros stays one."""
        norm = self.feature_norm.clamp(min=torch.finfo(torch.float32).tiny)
        return self.features / norm.float()[:, None]

    def remembered(self, key: Hashable, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return what `compute` returned when `key` was first asked for: methods that share a fit share work."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        return self._remembered[key]
