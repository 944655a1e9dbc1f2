"""Fitting methods together: the options of a mode, common readings, and why a method is refused."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifests.errors import FeatureError, InputError
from scoring.methods.contract import Scorer
from scoring.methods.table import ALL_METHODS, Method
from scoring.statistics.gather import Statistic, Training

MODES = ("authors", "openood")


@dataclass(frozen=True)
class FittedMethods:
    """What came of fitting.

    Attributes
    ----------
    scorers : mapping of str to Scorer
        Fitted methods by name, in the order of the table.
    refused : mapping of str to str
        The reason, for those that cannot be fitted.
    options : mapping of str to mapping
        The options of every method that was asked for, its own defaults included.
    """

    scorers: Mapping[str, Scorer]
    refused: Mapping[str, str]
    options: Mapping[str, Mapping[str, Any]]


def fit_methods(
    methods: Sequence[Method],
    training: Training,
    *,
    mode: str = "authors",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> FittedMethods:
    """Return `methods` fitted to `training`, which is read once, or twice where a method's statistics need it.

    Parameters
    ----------
    methods : sequence of Method
        Rows of the table.
    training : Training
        With validation images where the mode fits a method on them.
    mode : {"authors", "openood"}
        ``authors``: the ViM repository's settings, or the papers' own; ``openood``: OpenOOD's where they differ.
    overrides : mapping of method name to options, optional
        Options that are neither's.

    Raises
    ------
    InputError
        The mode or an option is unknown, an option has no possible value, or options are given for a method that
        is not among `methods`.
    FeatureError
        There is no training image.
    """
    if mode not in MODES:
        raise InputError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    _check_overrides_are_of(methods, overrides or {})
    options = {method.name: _options(method, mode, (overrides or {}).get(method.name, {})) for method in methods}
    refused: dict[str, str] = {}
    needed: dict[bool, list[Statistic]] = {False: [], True: []}
    for method in methods:
        try:
            needs = method.scorer.needs(training.head, **options[method.name])
        except FeatureError as error:
            refused[method.name] = str(error)
        else:
            needed[_is_on_validation(method, mode)] += needs
    training.gather(needed[False])
    if needed[True] and training.has_validation:
        training.validation.gather(needed[True])

    scorers: dict[str, Scorer] = {}
    for method in methods:
        if method.name in refused:
            continue
        try:
            fitted_on = training.validation if _is_on_validation(method, mode) else training
            scorers[method.name] = method.scorer.fit(fitted_on, **options[method.name])
        except FeatureError as error:
            refused[method.name] = str(error)
    return FittedMethods(scorers, refused, options)


def options_from_text(values: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Return ``("knn.k", "50")`` pairs as options by method, each a number or word of the type of its default.

    Raises
    ------
    InputError
        A name is not METHOD.OPTION, there is no such option, or its value is no number where it should be one.
    """
    by_name = {method.name: method for method in ALL_METHODS}
    options: dict[str, dict[str, Any]] = {}
    for key, text in values:
        name, dot, option = key.partition(".")
        if not dot or name not in by_name:
            raise InputError(f"option {key!r}: expected METHOD.OPTION=VALUE, for example react.quantile=0.9")
        parameter = _parameters(by_name[name]).get(option)
        if parameter is None:
            raise InputError(_unknown_option(by_name[name], option))
        options.setdefault(name, {})[option] = _value(parameter, text, key)
    return options


def _check_overrides_are_of(methods: Sequence[Method], overrides: Mapping[str, Mapping[str, Any]]) -> None:
    names = {method.name for method in methods}
    if others := [name for name, options in overrides.items() if options and name not in names]:
        verb = "is" if len(others) == 1 else "are"
        raise InputError(
            f"options are given for {', '.join(others)}, which {verb} not among the methods asked for"
        )


def _is_on_validation(method: Method, mode: str) -> bool:
    return mode == "openood" and method.is_openood_on_validation


def _options(method: Method, mode: str, override: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _parameters(method)
    if unknown := sorted(override.keys() - parameters.keys()):
        raise InputError(_unknown_option(method, unknown[0]))
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return defaults | (dict(method.openood) if mode == "openood" else {}) | dict(override)


def _parameters(method: Method) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(method.scorer.fit).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _unknown_option(method: Method, option: str) -> str:
    known = ", ".join(_parameters(method)) or "none"
    return f"method {method.name}: has no option {option!r}; its options: {known}"


def _value(parameter: inspect.Parameter, text: str, key: str) -> Any:
    """Return `text` as the annotation of the option says: bool, int, float or a word."""
    annotation = parameter.annotation
    expected = ""
    try:
        if annotation is bool:
            expected = "true or false"
            return {"true": True, "false": False}[text.lower()]
        if annotation in (int, int | None):
            expected = "a whole number"
            return int(text)
        if annotation in (float, float | None):
            expected = "a number"
            return float(text)
    except (ValueError, KeyError):
        raise InputError(f"option {key}: expected {expected}, found {text!r}") from None
    return text
