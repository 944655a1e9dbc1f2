"""ViM: the residual, scaled to a logit, against the energy of the real logits."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.principal_space import PrincipalSpace, ResidualSum, principal_dim
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.top_logit import TopLogitSum


@dataclass(frozen=True, eq=False)
class ViM(Scorer):
    """Virtual-logit matching.

    Attributes
    ----------
    space : PrincipalSpace
        Fitted to training features.
    alpha : float
        Scale that makes the virtual logit as large as the largest real one, on average over the training images.

    References
    ----------
    Wang, Li, Feng, Zhang (2022), ViM: Out-Of-Distribution with Virtual-logit Matching, section 4; Eq. 6 is
    alpha.

    Notes
    -----
    The paper's score is the softmax probability of the virtual logit. As in the authors' code, its log-odds are
    returned: the same order of images, without saturation.
    """

    space: PrincipalSpace
    alpha: float

    @classmethod
    def needs(cls, head: Head, *, dim_rule: str = "repo", dim: int | None = None) -> tuple[Statistic, ...]:
        """Return sums of largest logits and of residuals; raises as `principal_dim` does."""
        # Logits cost a product, so that they are asked for in the first reading, where other methods need them
        # too.
        return (TopLogitSum(), ResidualSum(principal_dim(head.n_features, rule=dim_rule, dim=dim)))

    @classmethod
    def fit(cls, training: Training, *, dim_rule: str = "repo", dim: int | None = None) -> Self:
        """Return ViM with alpha = sum of max_c l_c / sum of norm((x - o) R) over the training images.

        Parameters
        ----------
        training : Training
            Gives the principal space and the sums.
        dim_rule, dim : str and int, optional
            D, as `principal_dim` takes it.

        Raises
        ------
        FeatureError
            As `PrincipalSpace.fit`; or a sum is not finite, or alpha.
        """
        space = PrincipalSpace.fit(training, dim_rule=dim_rule, dim=dim)
        sum_top_logit, sum_residual_norm = training[TopLogitSum()], training[ResidualSum(space.dim)]
        alpha = sum_top_logit / sum_residual_norm if sum_residual_norm else math.inf
        # A sum without end would make an alpha of 0, as if no residual counted.
        if not (math.isfinite(alpha) and math.isfinite(sum_residual_norm)):
            raise FeatureError(
                f"alpha is not finite (sum of max logits {sum_top_logit:.6g} / sum of residual norms "
                f"{sum_residual_norm:.6g})"
            )
        return cls(space, alpha)

    def virtual_logit(self, outputs: Outputs) -> torch.Tensor:
        """Return alpha norm((x - o) R), float64, (n,)."""
        return self.alpha * self.space.residual_norm(outputs)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return alpha norm((x - o) R) - log sum_c exp(l_c); higher = more OOD."""
        return self.virtual_logit(outputs) - outputs.log_sum_exp

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the space, and whether alpha turns the residual round."""
        if self.alpha > 0:
            return self.space.warnings
        turned = (
            f"ViM: alpha is {self.alpha:.4g}, as the largest logit of training images is not positive on average: "
            f"a larger residual then counts as less OOD"
        )
        return (*self.space.warnings, turned)
