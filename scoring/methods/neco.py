"""NECO: the share of a feature that lies in the principal space of the training features."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.methods.contract import Scorer
from scoring.outputs import Outputs
from scoring.products import moment_noise, product, row_norms
from scoring.statistics.gather import Statistic, Training
from scoring.statistics.moments import Moments, SecondMoment

ARCHITECTURES = ("vit", "deit", "swin", "resnet")


@dataclass(frozen=True, eq=False)
class NECO(Scorer):
    """Norm of the projection on the principal components, relative to the norm.

    Attributes
    ----------
    mean : Tensor
        Of the training features, float32, (n_features,).
    deviation : Tensor
        Their standard deviation, 1 where they are constant, float32, (n_features,).
    components : Tensor
        P, the principal components of the standardised training features, float32, (dim, n_features).
    architecture : {"vit", "deit", "swin", "resnet"}
        Which of the authors' variants.

    References
    ----------
    Ben Ammar, Belkhir, Popescu, Manzanera, Franchi (2024), NECO: NEural Collapse Based Out-of-distribution
    detection.

    Notes
    -----
    The paper's score is norm(P x) / norm(x). The authors' code standardises features first, z = (x - mean) /
    deviation, and goes by the architecture:

    ============  ===============================
    resnet        norm(P z) / norm(z)
    vit           norm(P z) / norm(z) max_c l_c
    deit, swin    norm(P z) / norm(x) max_c l_c
    ============  ===============================

    Its default for the number of components is 100, for all models, which is why features that are no more than
    that need another. A feature of zero norm has no share in any space; its ratio counts as 0.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    components: torch.Tensor
    architecture: str

    @classmethod
    def needs(cls, head: Head, *, dim: int = 100, architecture: str = "vit") -> tuple[Statistic, ...]:
        """Return the moments; raises as `fit` where the options alone tell."""
        _check(head, dim, architecture)
        return (SecondMoment(),)

    @classmethod
    def fit(cls, training: Training, *, dim: int = 100, architecture: str = "vit") -> Self:
        """Return NECO.

        Parameters
        ----------
        training : Training
            Gives the moments.
        dim : int
            Number of principal components.
        architecture : {"vit", "deit", "swin", "resnet"}
            Which of the authors' variants, see above.

        Raises
        ------
        InputError
            There is no such architecture.
        FeatureError
            Not 0 < dim < n_features, or the training features vary in fewer than `dim` directions.
        """
        _check(training.head, dim, architecture)
        moments = training[SecondMoment()]
        deviation = _deviation(moments)
        correlation = moments.scatter / moments.n_images / torch.outer(deviation, deviation)
        eigenvalues, eigenvectors = torch.linalg.eigh(correlation)  # ascending
        if not float(eigenvalues[-dim]) > moment_noise(eigenvalues):
            raise FeatureError(
                f"the {moments.n_images} training images vary in fewer than dim = {dim} directions; give more of "
                f"them, or a smaller dim"
            )
        components = eigenvectors[:, -dim:].T.float().contiguous()
        return cls(moments.mean.float(), deviation.float(), components, architecture)

    def ood_score(self, outputs: Outputs) -> torch.Tensor:
        """Return -norm(P z) / norm(z) max_c l_c, or what the architecture has in its place; higher = more OOD."""
        standardised = (outputs.features - self.mean) / self.deviation
        inside = row_norms(product(standardised, self.components))
        norm = outputs.feature_norm if self.architecture in ("deit", "swin") else row_norms(standardised)
        ratio = torch.where(norm > 0, inside / norm, 0.0)
        return -ratio if self.architecture == "resnet" else -ratio * outputs.top_logit.double()


def _deviation(moments: Moments) -> torch.Tensor:
    """Return standard deviations, float64, (n_features,), 1 for a feature that does not vary, as scikit-learn."""
    variance = moments.scatter.diagonal() / moments.n_images
    # Float32 features that all have one value differ from their mean by its rounding.
    rounding = (torch.finfo(torch.float32).eps * moments.mean).square()
    return torch.where(variance > rounding, variance, 1.0).sqrt()


def _check(head: Head, dim: int, architecture: str) -> None:
    if architecture not in ARCHITECTURES:
        raise InputError(f"NECO: expected an architecture of {', '.join(ARCHITECTURES)}, found {architecture!r}")
    if not 0 < dim < head.n_features:
        raise FeatureError(
            f"expected 0 < dim < {head.n_features} features, found dim = {dim}; give a dim (the authors' is 100)"
        )
