"""ODIN: the softmax at a high temperature."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True)
class ODIN(Scorer):
    """Maximum softmax probability at a temperature.

    Attributes
    ----------
    temperature : float
        T, above 0 and finite.

    References
    ----------
    Liang, Li, Srikant (2018), Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks,
    section 3.

    Notes
    -----
    The method also moves each picture by epsilon against the gradient of its own score. That takes the network:
    ``extract-features --odin-epsilon`` writes the features of the moved pictures, to be scored here like any
    other. The ViM paper does not state its setting; the repository that its README points to has T = 1000 and
    epsilon = 0, the default here, for which the plain features serve.
    """

    temperature: float

    @classmethod
    def needs(cls, head: Head, *, temperature: float = 1000.0) -> tuple[Statistic, ...]:
        """Return nothing; raises InputError where the temperature is not above 0 and finite."""
        if not 0 < temperature < math.inf:
            raise InputError(f"ODIN: expected a temperature above 0 and finite, found {temperature}")
        return ()

    @classmethod
    def fit(cls, training: Training, *, temperature: float = 1000.0) -> Self:
        """Return ODIN; raises InputError where the temperature is not above 0 and finite."""
        cls.needs(training.head, temperature=temperature)
        return cls(temperature)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return 1 - max_c p_c with p = softmax(logits / T); higher = more OOD."""
        ratios = (outputs.logits.double() - outputs.top_logit.double()[:, None]).div_(self.temperature).exp_()
        others = ratios.scatter_(1, outputs.predicted[:, None], 0.0).sum(dim=1)
        return others / (1 + others)
