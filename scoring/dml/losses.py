"""Focal loss, center loss, and how the centers move."""

import torch

CENTER_LEARNING_RATE = 0.5
"""Of the SGD that moves the centers, in the authors' code."""


def focal_loss(
    logits: torch.Tensor, targets: torch.Tensor, gamma: float, *, is_weight_constant: bool = False
) -> torch.Tensor:
    """Return the mean of -(1 - p)^gamma log p, p the softmax of the image's own class; a scalar.

    Parameters
    ----------
    logits : Tensor
        (n, n_classes).
    targets : Tensor
        int64, (n,).
    gamma : float
        At least 0; 0 is cross-entropy, above 0 images that are right already count less.
    is_weight_constant : bool
        Whether (1 - p)^gamma is a constant to the gradient.

    References
    ----------
    Lin et al. (2017), Focal Loss for Dense Object Detection, Eq. 4.

    Notes
    -----
    The code of Zhang and Xiang takes p out of the graph, so that their gradient is that of cross-entropy times
    (1 - p)^gamma, as with `is_weight_constant`. The gradient of the equation is 1 - gamma p log p / (1 - p) times
    that one: with a gamma of 2 equal at p = 0 and three times as large near p = 1.
    """
    log_p = torch.log_softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)  # (n,)
    # 1 - p out of log p: p of a confident image is 1 in float32 long before log p is 0. Where it is, a power of 0
    # below 1 would have an infinite gradient, which times 0 is none.
    missing = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    weight = missing.pow(gamma)
    return -((weight.detach() if is_weight_constant else weight) * log_p).mean()


def center_loss(features: torch.Tensor, centers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean over images of the squared distance to the center of their class; a scalar.

    Parameters
    ----------
    features : Tensor
        (n, n_features).
    centers : Tensor
        (n_classes, n_features).
    targets : Tensor
        int64, (n,).

    References
    ----------
    Wen et al. (2016), A Discriminative Feature Learning Approach for Deep Face Recognition, Eq. 2, there halved
    and summed; here as in the code of Zhang and Xiang (2023), Decoupling MaxLogit.
    """
    return (features - centers[targets]).square().sum(dim=1).mean()


def moved_centers(features: torch.Tensor, centers: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the centers after one step of SGD on `center_loss`, (n_classes, n_features).

    As in the authors' code, the weight that the loss has for the network is no part of this step.

    Notes
    -----
    The gradient in closed form, 2 / n times the sum over a class of (center - feature). Autograd would add up the
    rows of a class in an order that changes from run to run on a GPU; a product with the membership does not.
    """
    membership = torch.nn.functional.one_hot(targets, len(centers)).to(features.dtype)  # (n, n_classes)
    counts = membership.sum(dim=0)[:, None]  # (n_classes, 1)
    gradient = 2 / len(features) * (counts * centers - membership.T @ features)
    return centers - CENTER_LEARNING_RATE * gradient
