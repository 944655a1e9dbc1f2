"""One Gaussian a class with a common covariance, as Mahalanobis and its relatives fit it."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError
from scoring.outputs import Outputs
from scoring.products import product, row_norms, triangular_product
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.gather import Training
from scoring.statistics.moments import Moments, SecondMoment
from scoring.statistics.spectrum import CovarianceSpectrum, Spectrum

_DOUBTFUL_NOISE = 20
"""A variance that is not this many times what rounding makes of zero is known to a few percent only."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map after which a covariance is the identity: P = root root^T is its pseudo-inverse.

    Attributes
    ----------
    root : Tensor
        float32, (n_features, rank).
    is_triangular : bool
        Whether `root` is lower triangular, of full rank.
    warnings : tuple of str
        What makes it doubtful.
    """

    root: torch.Tensor
    is_triangular: bool
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, spectrum: Spectrum, moments: Moments, name: str) -> Self:
        """Return the whitening of a covariance of the features that have these moments.

        Directions in which it is zero but for rounding are left out, as in SciPy's `pinvh`, which the ViM
        repository comes to call, and a warning counts them. Such are those of dead or equal features, and the
        normal of the hyperplane that a layer norm puts its output on. `name` stands before messages.

        Raises
        ------
        FeatureError
            It is zero in all directions.
        """
        eigenvalues = spectrum.eigenvalues
        largest = float(eigenvalues[-1])
        noise = max(len(eigenvalues) * torch.finfo(torch.float64).eps * largest, moments.rounding_variance)
        is_kept = eigenvalues > noise
        n_left_out = int((~is_kept).sum())
        if not is_kept.any():
            raise FeatureError(
                f"{name}: cannot be inverted, as it is zero: every training image equals the mean of its class"
            )
        warnings = []
        if n_left_out:
            warnings.append(
                f"{name}: singular; {n_left_out} of {len(eigenvalues)} directions, in which training features do "
                f"not vary but for rounding, are left out of the distance"
            )
        if n_doubtful := int((eigenvalues[is_kept] < _DOUBTFUL_NOISE * noise).sum()):
            warnings.append(
                f"{name}: nearly singular; {n_doubtful} of {len(eigenvalues)} directions vary little more than "
                f"rounding does and weigh as much as any other"
            )
        triangle = None if n_left_out else _inverse_root(spectrum.covariance)
        if triangle is not None:
            return cls(triangle.float(), True, tuple(warnings))
        root = spectrum.eigenvectors[:, is_kept] / eigenvalues[is_kept].sqrt()  # (n_features, rank)
        return cls(root.float().contiguous(), False, tuple(warnings))

    def of_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows root, float32, (n, rank), for rows (n, n_features) less the mean."""
        return triangular_product(rows, self.root) if self.is_triangular else product(rows, self.root.T)


@dataclass(frozen=True, eq=False)
class ClassGaussian:
    """Class means and the covariance within classes.

    Attributes
    ----------
    mean : Tensor
        Mean of all training features, float32, (n_features,).
    whitening : Whitening
        Of the covariance within classes, sum of (x - m_c)(x - m_c)^T / n.
    white_means : Tensor
        (m_c - mean) root, float32, (n_classes, rank).
    unit : bool
        Whether features are divided by their norm first.
    """

    mean: torch.Tensor
    whitening: Whitening
    white_means: torch.Tensor
    unit: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """The doubts of the covariance."""
        return self.whitening.warnings

    @classmethod
    def fit(cls, training: Training, *, unit: bool = False) -> Self:
        """Return the Gaussians of the training features, the same object for all methods that share them.

        Raises
        ------
        FeatureError
            A training image or a class lacks the other, or the covariance is zero.
        """
        return training.derived((cls, unit), lambda: cls._of_moments(training, unit))

    @classmethod
    def _of_moments(cls, training: Training, unit: bool) -> Self:
        moments, by_class = training[SecondMoment(unit)], training[MeansByClass(unit=unit)]
        spectrum = training[CovarianceSpectrum(unit, within=True)]
        whitening = Whitening.of(spectrum, moments, "covariance within classes")
        centred = by_class.means - moments.mean
        return cls(moments.mean.float(), whitening, (centred @ whitening.root.double()).float(), unit)

    def least_distance(self, outputs: Outputs) -> torch.Tensor:
        """Return min_c (x - m_c)^T P (x - m_c), float64 (n,); computed once for all methods that share it."""
        return outputs.remembered(self, lambda: self._least_distance(outputs))

    def _least_distance(self, outputs: Outputs) -> torch.Tensor:
        features = outputs.unit_features if self.unit else outputs.features
        white = self.whitening.of_rows(features - self.mean)  # (n, rank)
        norms = torch.linalg.vector_norm(self.white_means, dim=1)  # (n_classes,)
        products = product(white, self.white_means)  # (n, n_classes)
        nearest = products.mul_(-2).add_(norms.square()).argmin(dim=1)  # (n,)
        # Found by a product, measured by the difference: the product's squares cancel where classes lie far apart.
        difference = white.sub_(self.white_means[nearest])
        return row_norms(difference).square()


def _inverse_root(covariance: torch.Tensor) -> torch.Tensor | None:
    """Return the lower triangle T with T T^T = covariance^-1, or None where it is not positive definite.

    With rows and columns in reverse order, the covariance is L L^T; L^-1 back in order and transposed is T. A
    triangle takes a third of the time of an eigenvector basis to make, and half of its time to multiply with.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance.flip(0, 1))
    if failed:
        return None
    unit = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    return torch.linalg.solve_triangular(factor, unit, upper=False).flip(0, 1).T.contiguous()
