"""The largest features of each image, as ASH and SCALE keep and weigh them."""

import torch

from manifests.errors import FeatureError, InputError
from scoring.methods.energy import free_energy
from scoring.outputs import Outputs
from scoring.sorting import sorted_rows

_LARGEST_RATIO = 700
"""exp of more is infinite in float64, or a logit times it is."""


def number_kept(n_features: int, quantile: float) -> int:
    """Return k = N - round(N quantile), the number of features that ASH keeps of an image; halves round to even.

    Raises
    ------
    InputError
        `quantile` is not in [0, 1).
    FeatureError
        None would be kept.
    """
    if not 0 <= quantile < 1:
        raise InputError(f"quantile of the features of an image: expected 0 <= quantile < 1, found {quantile}")
    n_kept = n_features - round(n_features * quantile)
    if not n_kept:
        raise FeatureError(f"keeps none of {n_features} features at quantile {quantile}")
    return n_kept


def kept_features(outputs: Outputs, n_kept: int) -> torch.Tensor:
    """Return 1 for the `n_kept` largest features of each image and 0 for the others, float32, (n, n_features).

    Equal features at the threshold share the places that are left for them: each is kept to the same part of 1.
    The authors' code takes as many as there are places, whichever `topk` comes upon; this is the mean over all
    that it could take, and depends on no order.
    """
    features, ordered = outputs.features, _ordered(outputs)
    threshold = ordered[:, -n_kept, None]  # (n, 1)
    is_kept = torch.ge(features, threshold, out=torch.empty_like(features))
    if n_kept < features.shape[1]:
        tied = (ordered[:, -n_kept - 1] == ordered[:, -n_kept]).nonzero().flatten()
        if len(tied):
            is_kept[tied] = _shared_by_equal(features[tied], threshold[tied], n_kept)
    return is_kept


def sharpening(outputs: Outputs, n_kept: int) -> torch.Tensor:
    """Return exp(s1 / s2), float64, (n,), for s1 the sum of all features and s2 that of the `n_kept` largest.

    Where none is negative it is from e to e^(N / n_kept); for an image of zeros, whose logits no factor changes,
    it is e. With negative features, as after a layer norm, it is as finite wherever s2 > 0.

    Raises
    ------
    FeatureError
        It is not finite for an image.
    """
    sum_all = outputs.features.sum(dim=1).double()
    sum_kept = _ordered(outputs)[:, -n_kept:].sum(dim=1).double()
    ratio = sum_all / sum_kept
    is_finite = (sum_kept > 0) & (ratio < _LARGEST_RATIO)
    if not is_finite.all():
        rows = (~is_finite).nonzero().flatten()
        rows_of_zeros = rows[(outputs.features[rows] == 0).all(dim=1)]
        ratio[rows_of_zeros] = 1.0
        if n_infinite := len(rows) - len(rows_of_zeros):
            first = rows[(outputs.features[rows] != 0).any(dim=1)][0]
            raise FeatureError(
                f"exp(s1 / s2) is not finite for {n_infinite} of {len(outputs)} images, the first with s1 = "
                f"{float(sum_all[first]):.4g} (sum of its features) and s2 = {float(sum_kept[first]):.4g} (sum of "
                f"its {n_kept} largest): expected features of which none is negative, as after a ReLU"
            )
    return ratio.exp_()


def energy_of_scaled(products: torch.Tensor, factor: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the free energy of the logits factor W x + b, float64, (n,).

    Features that are multiplied by one number need no product of their own.

    Parameters
    ----------
    products : Tensor
        W x, (n, n_classes).
    factor : Tensor
        float64, (n,).
    bias : Tensor
        b, (n_classes,).
    """
    return free_energy(products.double().mul_(factor[:, None]).add_(bias))


def _ordered(outputs: Outputs) -> torch.Tensor:
    return outputs.remembered("features sorted within each image", lambda: sorted_rows(outputs.features))


def _shared_by_equal(features: torch.Tensor, threshold: torch.Tensor, n_kept: int) -> torch.Tensor:
    """Return 1 for features above `threshold` (n, 1), and what is left of `n_kept` shared by those equal to it."""
    is_above, is_equal = (features > threshold).float(), (features == threshold).float()
    n_left = n_kept - is_above.sum(dim=1, keepdim=True)
    return is_above + is_equal * (n_left / is_equal.sum(dim=1, keepdim=True))
