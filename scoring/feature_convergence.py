"""How far a trained model has converged: WFC and CFC, measures of its training features and its head."""

from dataclasses import dataclass

import torch

from manifests.errors import FeatureError
from scoring.heads import Head
from scoring.statistics.class_means import ClassMeans
from scoring.statistics.moments import Moments


@dataclass(frozen=True)
class FeatureConvergence:
    """Two measures of a trained model, each 0 at its best.

    Attributes
    ----------
    within_class : float
        WFC: how much features of one class vary, against how much classes differ. Low goes with a good MaxNorm.
    class_mean : float
        CFC: how far the directions and relative lengths of class means are from those of the weights. Low goes
        with a good MaxCosine.
    """

    within_class: float
    class_mean: float


def feature_convergence(head: Head, moments: Moments, by_class: ClassMeans) -> FeatureConvergence:
    """Return WFC and CFC of a model from statistics of its training images.

    WFC = trace(Sigma_W pinv(Sigma_B)) / K and CFC = sum_k norm(h_k / norm_F(H) - w_k / norm_F(W)), K classes.

    Raises
    ------
    FeatureError
        All class means are equal, or all weights are zero.

    References
    ----------
    Zhang and Xiang (2023), Decoupling MaxLogit for Out-of-Distribution Detection; WFC after Papyan, Han, Donoho
    (2020), Prevalence of Neural Collapse during the Terminal Phase of Deep Learning Training, NC1.

    Notes
    -----
    The paper's symbols are read so:

    - Sigma_W = sum over images of (x - h_k)(x - h_k)^T / n, h_k the mean of the class k of the image.
    - Sigma_B, the covariance of class means: their scatter about their own mean, divided by K, where each class
      counts once whatever its size. That mean is the mean of all images where classes are equally large.
    - Its rank is K - 1 at most. The pseudo-inverse keeps no more directions, and of those the ones in which the
      singular value of the centred class means is more than max(K, N) 2^-52 norm_F(H): less is rounding.
    - H is the matrix of class means as they are, not taken from a common mean, since the weights are not either
      (neural collapse's NC3 centres both).
    """
    centred = by_class.means - by_class.means.mean(dim=0)  # (n_classes, n_features)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    singular, directions = singular[: head.n_classes - 1], directions[: head.n_classes - 1]
    mean_norm = torch.linalg.vector_norm(by_class.means)
    is_kept = singular > max(centred.shape) * torch.finfo(torch.float64).eps * mean_norm
    if not is_kept.any():
        raise FeatureError("WFC is not defined: all class means are equal")
    within = (moments.scatter - by_class.between) / moments.n_images
    spread = ((directions @ within) * directions).sum(dim=1)  # v^T Sigma_W v of each direction, (rank,)
    # pinv(Sigma_B) = K sum_i v_i v_i^T / s_i^2: the K of the covariance and the K of the mean cancel.
    within_class = float((spread[is_kept] / singular[is_kept].square()).sum())

    weight_norm = torch.linalg.vector_norm(head.weight, dtype=torch.float64)
    if not weight_norm > 0:
        raise FeatureError("CFC is not defined: all weights of the head are zero")
    gaps = by_class.means / mean_norm - head.weight.double() / weight_norm
    return FeatureConvergence(within_class, float(torch.linalg.vector_norm(gaps, dim=1).sum()))
