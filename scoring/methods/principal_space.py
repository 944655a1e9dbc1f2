"""The principal space of the training features, and what of a feature lies outside it."""

from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.heads import Head
from scoring.outputs import Outputs
from scoring.products import moment_noise, product, row_norms
from scoring.statistics.gather import Measurement, Statistic, Training, TrainingBatch
from scoring.statistics.moments import SecondMoment

DIM_RULES = ("repo", "paper")

_LEAST_RESIDUAL_SHARE = 1e-12
"""Share of the squared norm that float32 features leave outside any space that holds them: rounding, 2**-48 and
a little more. At or below it a residual is noise."""

_LEAST_RELATIVE_GAP = 1e-10
"""Eigenvalues nearer than this are equal as far as float64 can tell them apart."""


def principal_dim(n_features: int, *, rule: str = "repo", dim: int | None = None) -> int:
    """Return D, the dimension of the principal space.

    Parameters
    ----------
    n_features : int
        N.
    rule : {"repo", "paper"}
        ``repo``, the authors' `benchmark.py` since 2023-09: 1000 from N = 2048, 512 from N = 768, else N // 2.
        ``paper``, section 6: 1000 above N = 1500, else 512. They differ for 1500 < N < 2048 and for N < 768.
    dim : int, optional
        D itself, in place of a rule.

    Raises
    ------
    InputError
        No such rule.
    FeatureError
        Not 0 < D < N: with D >= N nothing is left outside the space, and ViM would be NaN.
    """
    if rule not in DIM_RULES:
        raise InputError(f"rule for D: expected one of {', '.join(DIM_RULES)}, found {rule!r}")
    if dim is not None:
        chosen, source = dim, "as given"
    elif rule == "repo":
        chosen, source = 1000 if n_features >= 2048 else 512 if n_features >= 768 else n_features // 2, "rule repo"
    else:
        chosen, source = 1000 if n_features > 1500 else 512, "rule paper"
    if not 0 < chosen < n_features:
        raise FeatureError(
            f"principal space: expected 0 < D < N = {n_features} features, found D = {chosen} ({source}); "
            f"give a smaller D, or the rule repo"
        )
    return chosen


@dataclass(frozen=True, eq=False)
class PrincipalSpace:
    """The D directions in which training features vary most about the origin, kept as what is outside them.

    Attributes
    ----------
    origin : Tensor
        o = -pinv(W) b, float32, (n_features,).
    null_space : Tensor
        R^T, orthonormal eigenvectors of the N - D smallest eigenvalues, float32, (n_features - dim, n_features).
    warnings : tuple of str
        What makes the space doubtful.

    References
    ----------
    Wang, Li, Feng, Zhang (2022), ViM: Out-Of-Distribution with Virtual-logit Matching, Eq. 4, which its Figure 3
    names as the one that determines the principal space.

    Notes
    -----
    Departures from the authors' `benchmark.py`:

    - `eigh` for `eig`: the same subspace, real, orthogonal and ordered (`eig` returns complex vectors where
      features are duplicated or dead).
    - The second moment is summed in float64, batch by batch; theirs is float32 where features are.
    - `pinv` cuts singular values below max(C, N) * eps of float32, as torch does for a float32 head. Theirs cuts
      at 1e-15 and inverts the rounding error of a head whose rows sum to zero, which throws the origin far off.
    """

    origin: torch.Tensor
    null_space: torch.Tensor
    warnings: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        """D, the dimension of the principal space."""
        return self.null_space.shape[1] - self.null_space.shape[0]

    @classmethod
    def fit(cls, training: Training, *, dim_rule: str = "repo", dim: int | None = None) -> Self:
        """Return the principal space, the same object for all methods that ask for the same D.

        Raises
        ------
        InputError, FeatureError
            As `principal_dim`; there is no training image, or the training features lie in D dimensions, so that
            nothing of them is outside.
        """
        chosen = principal_dim(training.head.n_features, rule=dim_rule, dim=dim)
        return training.derived((cls, chosen), lambda: cls._of_moments(training, chosen))

    @classmethod
    def _of_moments(cls, training: Training, dim: int) -> Self:
        origin = origin_of(training.head)
        moments = training[SecondMoment()]
        eigenvalues, eigenvectors = torch.linalg.eigh(moments.about(origin))  # ascending
        n_outside = len(eigenvalues) - dim
        outside, total = (float(part.clamp(min=0).sum()) for part in (eigenvalues[:n_outside], eigenvalues))
        if not outside > max(_LEAST_RESIDUAL_SHARE * total, n_outside * moment_noise(eigenvalues)):
            raise FeatureError(
                f"principal space: the {moments.n_images} training images lie wholly inside its D = {dim} "
                f"dimensions: the residual of every one is zero; give more training images than D, or a smaller D"
            )
        null_space = eigenvectors[:, :n_outside].T.float().contiguous()
        return cls(origin.float(), null_space, _doubts(eigenvalues, n_outside, moments.n_images))

    def residual_norm(self, outputs: Outputs) -> torch.Tensor:
        """Return norm((x - o) R), float64 (n,); computed once for all methods on this space."""
        return outputs.remembered(self, lambda: self._residual_norm(outputs.features))

    def _residual_norm(self, features: torch.Tensor) -> torch.Tensor:
        outside = product(features - self.origin, self.null_space)  # (n, n_features - dim)
        return row_norms(outside)


@dataclass(frozen=True)
class ResidualSum(Statistic):
    """Sum of norm((x - o) R) over the training images, a float; needs a second reading of them."""

    dim: int

    @property
    def depends_on(self) -> tuple[Statistic, ...]:
        """The moments, out of which the space is made."""
        return (SecondMoment(),)

    def begin(self, training: Training) -> "ResidualMeasurement":
        """Return a measurement of nothing yet."""
        return ResidualMeasurement(PrincipalSpace.fit(training, dim=self.dim))


class ResidualMeasurement(Measurement):
    """A float64 sum."""

    def __init__(self, space: PrincipalSpace) -> None:
        self._space = space
        self._sum = 0.0

    def add(self, batch: TrainingBatch) -> None:
        """Take in some images."""
        self._sum += float(self._space.residual_norm(batch.outputs).sum())

    def result(self) -> float:
        """Return the sum."""
        return self._sum


def rank_tolerance(head: Head) -> float:
    """Return the share of its largest singular value below which one of the head's is rounding."""
    # The weights were rounded to float32, and that is what the smallest singular values are made of.
    return max(head.weight.shape) * torch.finfo(torch.float32).eps


def origin_of(head: Head) -> torch.Tensor:
    """Return o = -pinv(W) b, float64, (n_features,): the point from which the bias vanishes, where C <= N."""
    weight, bias = head.weight.double(), head.bias.double()
    is_wide = head.n_classes <= head.n_features
    # pinv(W) = W^T pinv(W W^T) = pinv(W^T W) W^T. The smaller square is decomposed: three times as fast as W, and
    # the singular values that are kept are large enough for their squares.
    squares, vectors = torch.linalg.eigh(weight @ weight.T if is_wide else weight.T @ weight)
    is_kept = squares > rank_tolerance(head) ** 2 * squares[-1]
    inverse = vectors[:, is_kept] / squares[is_kept] @ vectors[:, is_kept].T
    return -(weight.T @ (inverse @ bias) if is_wide else inverse @ (weight.T @ bias))


def _doubts(eigenvalues: torch.Tensor, n_outside: int, n_images: int) -> tuple[str, ...]:
    doubts = []
    if n_images < len(eigenvalues):
        doubts.append(
            f"principal space: {n_images} training images are fewer than the {len(eigenvalues)} features, so that "
            f"part of the residual is directions that no training image shows"
        )
    inside, outside = float(eigenvalues[n_outside]), float(eigenvalues[n_outside - 1])
    if inside - outside <= _LEAST_RELATIVE_GAP * inside:
        doubts.append(
            "principal space: D cuts between equal eigenvalues, so that which direction is outside is arbitrary; "
            "another D will not be"
        )
    return tuple(doubts)
