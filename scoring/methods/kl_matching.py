"""KL-Matching: how far the softmax is from what is usual for any class."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.products import product
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.templates import SoftmaxByPrediction


@dataclass(frozen=True, eq=False)
class KLMatching(Scorer):
    """Kullback-Leibler divergence from the nearest template.

    Attributes
    ----------
    log_templates : Tensor
        log d_c, float32, (number of templates, n_classes): d_c is the mean softmax of the images predicted as c.

    References
    ----------
    Hendrycks et al. (2022), Scaling Out-of-Distribution Detection for Real-World Settings, section 4.

    Notes
    -----
    KL(p, d_c) = sum_k p_k log p_k - sum_k p_k log d_ck, of which only the second sum depends on c: one matrix
    product in place of one Python call for each image and class. Float32 probabilities become 0 where logits lie
    more than 103 below the largest. A template in which a class is 0 is infinitely far in the authors' code; here
    the logarithm of a template is floored at -708.
    """

    log_templates: torch.Tensor

    @classmethod
    def needs(cls, head: Head, *, one_hot_for_unpredicted: bool = False) -> tuple[Statistic, ...]:
        """Return the templates."""
        return (SoftmaxByPrediction(),)

    @classmethod
    def fit(cls, training: Training, *, one_hot_for_unpredicted: bool = False) -> Self:
        """Return KL-Matching on the mean softmax by predicted class.

        Parameters
        ----------
        training : Training
            Gives the templates.
        one_hot_for_unpredicted : bool
            A class that no image is predicted as has a template that is certain of it, as in OpenOOD: infinitely
            far from any softmax that is not. Where false it is an error, as in the authors' code.

        Raises
        ------
        FeatureError
            A class is never predicted.
        """
        templates = training[SoftmaxByPrediction()]
        unpredicted = (templates.counts == 0).nonzero().flatten()
        if len(unpredicted) and not one_hot_for_unpredicted:
            raise FeatureError(
                f"{len(unpredicted)} of {len(templates.counts)} classes are never predicted on the images it is "
                f"fitted on, class {int(unpredicted[0])} among them: they have no mean softmax"
            )
        # A one-hot is infinitely far from every softmax but itself, so that it is nearest to none: left out.
        predicted = templates.counts > 0
        means = templates.sums[predicted] / templates.counts[predicted, None]
        return cls(means.clamp(min=torch.finfo(torch.float64).tiny).log().float())

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return min_c KL(p, d_c), natural logarithm, at least 0 but for rounding; higher = more OOD."""
        cross = product(outputs.probabilities, self.log_templates)  # (n, n_classes)
        return outputs.negative_entropy - cross.amax(dim=1).double()
