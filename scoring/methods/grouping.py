"""MaxGroup and ViM+Group: probabilities added up by group of classes."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.methods.vim import ViM
from scoring.outputs import Outputs
from scoring.statistics.gather import Statistic, Training


@dataclass(frozen=True, eq=False)
class MaxGroup(Scorer):
    """Probability of the most probable group of classes.

    Attributes
    ----------
    group_of : Tensor
        Group of each class, from 0 on, int64, (n_classes,).

    References
    ----------
    Wang, Li, Feng, Zhang (2022), ViM: Out-Of-Distribution with Virtual-logit Matching, Table 4; the groups are
    those of Huang and Li (2021), MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space.
    """

    group_of: torch.Tensor

    @classmethod
    def fit(cls, training: Training) -> Self:
        """Return MaxGroup on `training.group_of`; raises FeatureError where no groups are given."""
        return cls(_group_of(training))

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return log of the odds against the most probable group, max_g sum_{c in g} p_c; higher = more OOD."""
        best, others = _best_and_others(outputs, self.group_of)
        return others - best


@dataclass(frozen=True, eq=False)
class ViMGroup(Scorer):
    """ViM whose real logits compete in groups.

    Attributes
    ----------
    vim : ViM
        Gives the virtual logit.
    group_of : Tensor
        Group of each class, from 0 on, int64, (n_classes,).

    References
    ----------
    Wang, Li, Feng, Zhang (2022), ViM: Out-Of-Distribution with Virtual-logit Matching, Table 4.

    Notes
    -----
    The authors publish no code for it. As for MaxGroup, probabilities are added up by group, but those of the
    softmax that the virtual logit takes part in; the most probable group's is compared.
    """

    vim: ViM
    group_of: torch.Tensor

    @classmethod
    def needs(cls, head: Head, *, dim_rule: str = "repo", dim: int | None = None) -> tuple[Statistic, ...]:
        """Return what ViM needs."""
        return ViM.needs(head, dim_rule=dim_rule, dim=dim)

    @classmethod
    def fit(cls, training: Training, *, dim_rule: str = "repo", dim: int | None = None) -> Self:
        """Return ViM+Group; raises FeatureError as `ViM.fit`, or where no groups are given."""
        group_of = _group_of(training)
        return cls(ViM.fit(training, dim_rule=dim_rule, dim=dim), group_of)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return log of the odds against the most probable group in the softmax of (l, virtual logit).

        The virtual logit competes with the other groups: log(e^others + e^virtual) - best, where best and others
        are the log-sum-exp of the logits of the best group and of all others; higher = more OOD.
        """
        best, others = _best_and_others(outputs, self.group_of)
        return torch.logaddexp(others, self.vim.virtual_logit(outputs)) - best

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of ViM."""
        return self.vim.warnings


def _group_of(training: Training) -> torch.Tensor:
    head, group_of = training.head, training.group_of
    if group_of is None:
        raise FeatureError("needs the group of each class: give a table of them (--groups CSV)")
    groups = sorted(set(group_of))
    if len(group_of) != head.n_classes or len(groups) < 2:
        raise FeatureError(
            f"expected a group for each of {head.n_classes} classes and at least two groups, found "
            f"{len(group_of)} classes in {len(groups)}"
        )
    return torch.tensor([groups.index(group) for group in group_of], device=head.device)


def _best_and_others(outputs: Outputs, group_of: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log sum exp of the logits of the best group, and of all other groups, float64, (n,) each.

    In logarithms, as the probability of the best group of a confident image is 1 but for what float64 cannot hold.
    """
    groups = range(int(group_of.max()) + 1)
    logits = outputs.logits.double()
    by_group = torch.stack([torch.logsumexp(logits[:, group_of == group], dim=1) for group in groups], dim=1)
    best, where = by_group.max(dim=1)
    others = torch.logsumexp(by_group.scatter(1, where[:, None], -torch.inf), dim=1)
    return best, others
