"""Results on a terminal, in the layout of the ViM paper's Table 2."""

from collections.abc import Callable, Sequence
from statistics import fmean

from scoring.metrics import Metrics
from scoring.score import ScoreResult

_FPR95_IN = "fpr95_in: share of OOD images let through where 95 % of ID images are kept (FPR95 of the ViM paper)."
_FPR95_OUT = "fpr95_out: share of ID images lost where 95 % of OOD images are caught (FPR95 of OpenOOD)."


def results_table(result: ScoreResult) -> str:
    """Return methods as rows and OOD sets as columns, in percent, and below what the figures mean."""
    lines = ["AUROC / fpr95_in, %"]
    lines += _block(result, lambda metrics: (metrics.auroc, metrics.fpr95_in))
    lines += ["", "AUROC / fpr95_out, %"]
    lines += _block(result, lambda metrics: (metrics.auroc, metrics.fpr95_out))
    lines += ["", _FPR95_IN, _FPR95_OUT, "The two are never comparable. " + _counts(result)]
    lines += [f"Warning: {warning}." for warning in result.warnings]
    return "\n".join(lines)


def _block(result: ScoreResult, figures_of: Callable[[Metrics], tuple[float, float]]) -> list[str]:
    has_average = len(result.ood_sets) > 1
    rows = [["method", "source", *result.ood_sets, *(["average"] if has_average else [])]]
    for method in result.methods:
        pairs = [figures_of(result.figures[method.name, ood_set]) for ood_set in result.ood_sets]
        if has_average:
            first, second = zip(*pairs, strict=True)
            pairs.append((fmean(first), fmean(second)))
        rows.append(
            [method.title, method.family, *(f"{100 * one:.2f} / {100 * other:.2f}" for one, other in pairs)]
        )
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    # Words to the left, figures to the right.
    return [
        "  ".join(
            cell.ljust(width) if position < 2 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _counts(result: ScoreResult) -> str:
    fitted = [f"D = {result.dim}"] if result.dim is not None else []
    fitted += [f"alpha = {result.alpha:.4g}"] if result.alpha is not None else []
    images = ", ".join(f"{name} {n_images}" for name, n_images in result.n_images.items())
    return f"Images: {images}." + (f" Fitted: {', '.join(fitted)}." if fitted else "")
