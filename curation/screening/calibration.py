"""A calibration: the fitted risk, what it holds for, and its figures on pictures that it was not fitted on."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from curation.screening.operating_point import (
    OperatingPoint,
    auroc,
    expected_calibration_error,
    operating_point,
    reliability,
)
from curation.screening.risk import RiskModel
from manifests.durable import write_json
from manifests.errors import InputError, one_line
from manifests.masks import RISK_NUMBER

if TYPE_CHECKING:
    # It loads torch, which reading a calibration does not need.
    from curation.screening.sources import ClassSource

_VERSION = 2
"""1 chose the bound on the risks of pictures that the model had seen."""

Risks = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibrate` found, all that `screen --calibration` needs.

    Attributes
    ----------
    sources : tuple of str
        Digests of the sources it holds for, in their order.
    model : RiskModel
        Fitted on one half of the labelled pictures.
    fit_out : array of float32
        Risks of that half's `out` pictures, each by a model that has not seen it, on which a bound is chosen.
    held_out_in, held_out_out : array of float32
        Risks of the other half, on which every figure is taken.
    max_lost : float
        The goal that was asked for.
    seed : int
        Of the split.
    """

    sources: tuple[str, ...]
    model: RiskModel
    fit_out: Risks
    held_out_in: Risks
    held_out_out: Risks
    max_lost: float
    seed: int

    def operating_point(self, max_lost: float | None = None) -> OperatingPoint:
        """Return the bound for a goal, by default that of `calibrate`, with its figures."""
        goal = self.max_lost if max_lost is None else max_lost
        return operating_point(self.fit_out, self.held_out_out, self.held_out_in, goal)

    def check_holds_for(self, sources: Sequence["ClassSource"], names: Sequence[str]) -> None:
        """Refuse sources, or numbers made of them, other than those that were calibrated.

        Raises
        ------
        InputError
            They differ in store, prototypes or head.
        """
        found = tuple(source.digest for source in sources)
        if found != self.sources:
            stores = ", ".join(f"{source.digest} ({source.store.key.model})" for source in sources)
            raise InputError(
                f"--calibration: made for the sources {', '.join(self.sources)}, found {stores}: "
                "run 'calibrate' with these embeddings and classes, or name the others"
            )
        if tuple(names) != self.model.names:
            alone = (("only in the calibration", self.model.names, names), ("only now", names, self.model.names))
            told = [
                f"{where}: {', '.join(sorted(of_one))}"
                for where, ones, others in alone
                if (of_one := {*ones} - {*others})
            ]
            raise InputError(
                "--calibration: made of other numbers of the same sources, as with or without what people "
                f"verified, or with another localizer ({'; '.join(told)}): run 'calibrate' again"
            )

    def check_made_with_masks(self, has_masks: bool) -> None:
        """Refuse a calibration with the evidence of masks where `screen` takes none, and the reverse.

        Raises
        ------
        InputError
            They differ; the message says what to give or leave out.
        """
        is_made_with_masks = any(name.startswith(f"{RISK_NUMBER} ") for name in self.model.names)
        if is_made_with_masks and not has_masks:
            raise InputError("--calibration: it was made with --masks: give --masks")
        if has_masks and not is_made_with_masks:
            raise InputError(
                "--masks: the calibration was made without --masks: leave it out, or run 'calibrate --masks'"
            )

    def write(self, path: Path) -> None:
        """Write all this as JSON, with the figures that a reader wants beside what `read` needs."""
        write_json(path, self._content())

    def _content(self) -> dict[str, Any]:
        bins = reliability(self.held_out_in, self.held_out_out)
        return {
            "version": _VERSION,
            "sources": list(self.sources),
            "model": asdict(self.model),
            "max_lost": self.max_lost,
            "seed": self.seed,
            "risks": {
                name: sorted(risks.tolist())
                for name, risks in (
                    ("fit_out", self.fit_out),
                    ("held_out_in", self.held_out_in),
                    ("held_out_out", self.held_out_out),
                )
            },
            "held_out": {
                "auroc": auroc(self.held_out_in, self.held_out_out),
                "expected_calibration_error": expected_calibration_error(bins),
                "reliability": [asdict(each) for each in bins],
                "operating_point": asdict(self.operating_point()),
            },
        }

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Return the calibration in `path`.

        Raises
        ------
        InputError
            The file is not there, or is no calibration.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != _VERSION:
                raise InputError(
                    f"--calibration {path}: of version {content['version']}, expected {_VERSION}: run 'calibrate' "
                    "again"
                )
            model, risks = content["model"], content["risks"]
            means, scales, coefficients = (
                tuple(float(value) for value in model[part]) for part in ("means", "scales", "coefficients")
            )
            fitted = RiskModel(tuple(model["names"]), means, scales, coefficients, float(model["intercept"]))
            fit_out, held_out_in, held_out_out = (
                np.array(risks[name], np.float32) for name in ("fit_out", "held_out_in", "held_out_out")
            )
            goal, seed = float(content["max_lost"]), int(content["seed"])
            found = cls(tuple(content["sources"]), fitted, fit_out, held_out_in, held_out_out, goal, seed)
        except OSError as error:
            raise InputError(f"--calibration {path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"--calibration {path}: not what 'calibrate' writes ({one_line(error)})") from error
        found._check(path)
        return found

    def _check(self, path: Path) -> None:
        model = self.model
        lengths = {len(part) for part in (model.names, model.means, model.scales, model.coefficients)}
        numbers = np.array([*model.means, *model.scales, *model.coefficients, model.intercept])
        risks = np.concatenate([self.fit_out, self.held_out_in, self.held_out_out])
        is_whole = len(lengths) == 1 and np.isfinite(numbers).all() and all(model.scales)
        if not is_whole or not ((risks >= 0) & (risks <= 1)).all() or not len(self.fit_out):
            raise InputError(f"--calibration {path}: damaged; run 'calibrate' again")
