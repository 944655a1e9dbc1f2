"""The principal space of the training features, and what of a feature lies outside it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch

from manifests.errors import FeatureError, InputError
from scoring.feature_sets import FeatureBatch
from scoring.heads import Head

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
        o = -pinv(W) b, float64, (n_features,).
    null_space : Tensor
        R, orthonormal eigenvectors of the N - D smallest eigenvalues, float64, (n_features, n_features - dim).
    n_train : int
        Number of training images.
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
    - The second moment and the projection are float64 and streamed; theirs are float32 where features are.
    - `pinv` cuts singular values below max(C, N) * eps of float32, as torch does for a float32 head. Theirs cuts
      at 1e-15 and inverts the rounding error of a head whose rows sum to zero, which throws the origin far off.
    """

    origin: torch.Tensor
    null_space: torch.Tensor
    n_train: int
    warnings: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        """D, the dimension of the principal space."""
        return self.null_space.shape[0] - self.null_space.shape[1]

    @classmethod
    def fit(cls, head: Head, train: Iterable[FeatureBatch], dim: int) -> Self:
        """Return the principal space of `train`, read once.

        Raises
        ------
        FeatureError
            Not 0 < `dim` < n_features, there is no training image, or the training features lie in `dim`
            dimensions, so that nothing of them is outside.
        """
        dim = principal_dim(head.n_features, dim=dim)
        origin = origin_of(head)
        moment, n_train = _second_moment(train, origin)
        eigenvalues, eigenvectors = torch.linalg.eigh(moment)  # ascending
        n_outside = head.n_features - dim
        share = float(eigenvalues[:n_outside].clamp(min=0).sum() / eigenvalues.clamp(min=0).sum())
        if not share > _LEAST_RESIDUAL_SHARE:
            raise FeatureError(
                f"principal space: the {n_train} training images lie wholly inside its D = {dim} dimensions: "
                f"the residual of every one is zero; give more training images than D, or a smaller D"
            )
        # Cloned, as a slice would keep the other eigenvectors in memory.
        null_space = eigenvectors[:, :n_outside].clone()
        return cls(origin, null_space, n_train, _doubts(eigenvalues, n_outside, n_train))

    def residual_norm(self, features: torch.Tensor) -> torch.Tensor:
        """Return norm((x - o) R) for features (n, n_features), as float64 (n,)."""
        return torch.linalg.vector_norm((features.double() - self.origin) @ self.null_space, dim=1)


def origin_of(head: Head) -> torch.Tensor:
    """Return o = -pinv(W) b, float64, (n_features,): the point from which the bias vanishes, where C <= N."""
    # The weights were rounded to float32, and that is what the smallest singular values are made of.
    rtol = max(head.weight.shape) * torch.finfo(torch.float32).eps
    return -torch.linalg.pinv(head.weight.double(), rtol=rtol) @ head.bias.double()


def _second_moment(train: Iterable[FeatureBatch], origin: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the sum of (x - o)(x - o)^T over `train`, about the origin and not the mean, and the count."""
    moment = torch.zeros(len(origin), len(origin), dtype=torch.float64, device=origin.device)
    n_train = 0
    for batch in train:
        shifted = batch.features.to(origin.device).double() - origin  # (n, n_features)
        moment.addmm_(shifted.T, shifted)
        n_train += len(shifted)
    if not n_train:
        raise FeatureError("principal space: there is no training image to fit it to")
    return moment, n_train


def _doubts(eigenvalues: torch.Tensor, n_outside: int, n_train: int) -> tuple[str, ...]:
    doubts = []
    if n_train < len(eigenvalues):
        doubts.append(
            f"principal space: {n_train} training images are fewer than the {len(eigenvalues)} features, so that "
            f"part of the residual is directions that no training image shows"
        )
    inside, outside = float(eigenvalues[n_outside]), float(eigenvalues[n_outside - 1])
    if inside - outside <= _LEAST_RELATIVE_GAP * inside:
        doubts.append(
            "principal space: D cuts between equal eigenvalues, so that which direction is outside is arbitrary; "
            "another D will not be"
        )
    return tuple(doubts)
