"""A covariance of the training features and its eigenvalues, the smallest ones measured apart.

Float32 products know the entries of a covariance to 1e-7 or so. Directions in which features vary hardly more than
that are not known from it: where float16 features come out of a layer norm, for instance, the normal of its
hyperplane. A second reading measures those few directions, and how they vary with the others, in float64.
"""

import functools
from dataclasses import dataclass
from typing import Self

import torch

from scoring.products import moment_dtype
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch
from scoring.statistics.moments import SecondMoment

_SMALL_SHARE = 1e-5
"""Of the mean eigenvalue: below it, float32 products are off by more than a hundredth."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A covariance and its decomposition.

    Attributes
    ----------
    covariance : Tensor
        float64, (n_features, n_features), symmetric.
    eigenvalues : Tensor
        float64, ascending, (n_features,).
    """

    covariance: torch.Tensor
    eigenvalues: torch.Tensor

    @classmethod
    def of(cls, covariance: torch.Tensor) -> Self:
        """Return the spectrum of `covariance`."""
        return cls(covariance, torch.linalg.eigvalsh(covariance))

    @functools.cached_property
    def eigenvectors(self) -> torch.Tensor:
        """Eigenvectors as columns, float64, (n_features, n_features); most fits come by without them."""
        return torch.linalg.eigh(self.covariance).eigenvectors


@dataclass(frozen=True)
class CovarianceSpectrum(Statistic):
    """`Spectrum` of a covariance of the training features.

    Attributes
    ----------
    unit : bool
        Of features divided by their norm.
    within : bool
        About the mean of each image's class, in place of the mean of all.
    """

    unit: bool = False
    within: bool = False

    @property
    def depends_on(self) -> tuple[Statistic, ...]:
        """Moments and, for the covariance within classes, class means."""
        return (SecondMoment(self.unit), *([MeansByClass(unit=self.unit)] if self.within else []))

    def begin(self, training: Training) -> "SpectrumMeasurement":
        """Return a measurement of the small directions; there are none where products are float64."""
        moments = training[SecondMoment(self.unit)]
        centres, scatter = moments.mean[None], moments.scatter
        if self.within:
            by_class = training[MeansByClass(unit=self.unit)]
            centres, scatter = by_class.means, scatter - by_class.between
        spectrum = Spectrum.of(scatter / moments.n_images)
        eigenvalues = spectrum.eigenvalues
        is_exact = moment_dtype(len(eigenvalues)) == torch.float64
        n_small = 0 if is_exact else int((eigenvalues < _SMALL_SHARE * eigenvalues.mean()).sum())
        return SpectrumMeasurement(self, spectrum, centres, n_small)


class SpectrumMeasurement(Measurement):
    """The covariance of the small directions with all features, summed in float64."""

    def __init__(
        self, statistic: CovarianceSpectrum, spectrum: Spectrum, centres: torch.Tensor, n_small: int
    ) -> None:
        self._statistic = statistic
        self._spectrum = spectrum
        self._centres = centres
        vectors = spectrum.eigenvectors if n_small else spectrum.covariance
        self._small = vectors[:, :n_small].contiguous()  # (n_features, n_small)
        self._products = torch.zeros_like(self._small.T)  # (n_small, n_features)
        self._n_images = 0

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        self._n_images += len(batch.outputs)
        if not len(self._products):
            return
        features = batch.outputs.unit_features if self._statistic.unit else batch.outputs.features
        centres = self._centres[batch.class_index] if self._statistic.within else self._centres
        centred = features.double() - centres  # (n, n_features)
        self._products += (centred @ self._small).T @ centred

    def result(self) -> Spectrum:
        """Return the spectrum of what is known of each direction."""
        n_small = len(self._products)
        if not n_small:
            return self._spectrum
        # In the eigenvectors so far: what was measured apart, and the other eigenvalues.
        vectors = self._spectrum.eigenvectors
        covariance = self._spectrum.eigenvalues.diag()
        covariance[:n_small] = self._products / self._n_images @ vectors
        covariance[:, :n_small] = covariance[:n_small].T
        return Spectrum.of(vectors @ covariance @ vectors.T)
