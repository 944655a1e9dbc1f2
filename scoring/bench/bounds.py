"""What the matrix products of each method take at the machine's own rate: a bound that no code on it can beat."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from manifests.devices import seconds_now
from scoring.products import product

_LEAST_SECONDS = 0.1
"""Spent on each product, however small: the first ones only wake threads."""


@dataclass(frozen=True)
class Job:
    """The counts that decide how much there is to multiply.

    Attributes
    ----------
    K, V : int
        Training images, and images scored: ID and OOD together.
    N, C : int
        Features and classes of the head.
    D : int
        Dimension of ViM's principal space.
    G : int
        Groups of classes.
    """

    K: int
    V: int
    N: int
    C: int
    D: int
    G: int


# Floating-point operations of matrix products, a multiplication and an addition counted apart. Of a symmetric or
# triangular matrix half is to be computed. Products that have no image in them, as those of a decomposition, are
# left out: they are the same for any K and V.
FLOP_OF_PART: Mapping[str, Callable[[Job], int]] = {
    "x W^T, training images": lambda job: 2 * job.K * job.N * job.C,
    "x W^T, scored images": lambda job: 2 * job.V * job.N * job.C,
    "sum of x x^T": lambda job: job.K * job.N * (job.N + 1),
    "sum of u u^T, u = x / norm(x)": lambda job: job.K * job.N * (job.N + 1),
    "(x - o) R, training images": lambda job: 2 * job.K * job.N * (job.N - job.D),
    "(x - o) R, scored images": lambda job: 2 * job.V * job.N * (job.N - job.D),
    "x by a triangle that whitens": lambda job: job.V * job.N * (job.N + 1),
    "x by a second such triangle": lambda job: job.V * job.N * (job.N + 1),
    "whitened x by C means": lambda job: 2 * job.V * job.N * job.C,
    "p by C log templates": lambda job: 2 * job.V * job.C * job.C,
    "p by membership in groups": lambda job: 2 * job.V * job.C * job.G,
    "x - o by a basis of the head's columns": lambda job: 2 * job.V * job.N * min(job.C, job.N),
    "x / norm(x) by directions of W, training images": lambda job: 2 * job.K * job.N * job.C,
    "x / norm(x) by directions of W, scored images": lambda job: 2 * job.V * job.N * job.C,
    "changed x W^T, or x by a changed W": lambda job: 2 * job.V * job.N * job.C,
    "x / norm(x) by all training images": lambda job: 2 * job.V * job.N * job.K,
    "x / norm(x) by 1 % of the training images": lambda job: 2 * job.V * job.N * (job.K // 100),
    "standardised x by 100 components": lambda job: 2 * job.V * job.N * min(100, job.N - 1),
}

_HEAD = ("x W^T, training images", "x W^T, scored images")
_MAHALANOBIS = ("x by a triangle that whitens", "whitened x by C means")
_VIM = ("sum of x x^T", "(x - o) R, training images", "(x - o) R, scored images")
_OTHER_LOGITS = ("changed x W^T, or x by a changed W",)

# The products of each method with its default options. The head's own is not here, as methods share it.
PARTS_OF_METHOD: Mapping[str, tuple[str, ...]] = {
    "msp": (),
    "energy": (),
    "odin": (),
    "max_logit": (),
    "kl_matching": ("p by C log templates",),
    "residual": ("sum of x x^T", "(x - o) R, scored images"),
    "nusa": ("x - o by a basis of the head's columns",),
    "react": _OTHER_LOGITS,
    "gradnorm": (),
    "mahalanobis": ("sum of x x^T", *_MAHALANOBIS),
    "vim": _VIM,
    "max_group": ("p by membership in groups",),
    "vim_group": (*_VIM, "p by membership in groups"),
    "max_cosine": ("x / norm(x) by directions of W, scored images",),
    "max_norm": (),
    "dml": (
        "x / norm(x) by directions of W, training images",
        "x / norm(x) by directions of W, scored images",
    ),
    "rmds": ("sum of x x^T", *_MAHALANOBIS, "x by a second such triangle"),
    "mahalanobis_pp": ("sum of u u^T, u = x / norm(x)", *_MAHALANOBIS),
    "knn": ("x / norm(x) by all training images",),
    "nnguide": ("x / norm(x) by 1 % of the training images",),
    "neco": ("sum of x x^T", "standardised x by 100 components"),
    "gen": (),
    "she": (),
    "dice": _OTHER_LOGITS,
    "ash_p": _OTHER_LOGITS,
    "ash_b": _OTHER_LOGITS,
    "ash_s": _OTHER_LOGITS,
    "scale": (),
    "vra": _OTHER_LOGITS,
    "fdbd": (),
    "nci": (),
}


def gflop_of_products(method: str, job: Job) -> float | None:
    """Return 10^9 operations of the products of one method; None where it has none, or is not known here."""
    parts = PARTS_OF_METHOD.get(method, ())
    return sum(FLOP_OF_PART[part](job) for part in parts) / 1e9 if parts else None


def gflop_together(methods: Sequence[str], job: Job) -> float:
    """Return 10^9 operations of several methods and the head, what they share counted once."""
    # ReAct and its like change x or W each in a way of its own: their products are not one.
    n_other_logits = sum(PARTS_OF_METHOD.get(method) == _OTHER_LOGITS for method in methods)
    parts = {part for method in methods for part in PARTS_OF_METHOD.get(method, ())} - set(_OTHER_LOGITS)
    counted = [*_HEAD, *parts, *_OTHER_LOGITS * n_other_logits]
    return sum(FLOP_OF_PART[part](job) for part in counted) / 1e9


def product_rates(job: Job, n_rows: int, device: torch.device) -> dict[str, float]:
    """Return the GFLOP/s of float32 products here: the best of two shapes, by `torch.mm` and by ours.

    The shapes are those of the methods: `n_rows` images by a head of C, and by N directions.
    """
    generator = torch.Generator().manual_seed(0)
    ways: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "torch.mm": lambda rows, weight: torch.mm(rows, weight.T),
        "scoring.products": product,
    }
    rates = dict.fromkeys(ways, 0.0)
    rows = torch.randn(n_rows, job.N, generator=generator).to(device)
    for n_columns in (job.C, job.N):
        weight = torch.randn(n_columns, job.N, generator=generator).to(device)
        for name, multiply in ways.items():
            multiply(rows, weight)
            spent_s = 0.0
            while spent_s < _LEAST_SECONDS:
                started = seconds_now(device)
                multiply(rows, weight)
                seconds = seconds_now(device) - started
                spent_s += seconds
                rates[name] = max(rates[name], 2 * n_rows * job.N * n_columns / seconds / 1e9)
    return rates
