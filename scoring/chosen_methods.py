"""Which methods a run of `score` fits, with which options and on which sets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from manifests.errors import FeatureError, InputError
from scoring.methods.table import ALL_METHODS, METHODS, TWO_MODEL_METHODS, Method, methods_named
from scoring.score_settings import FitSettings, SetNames


def chosen_methods(
    methods: Sequence[str] | None, fit: FitSettings, moved_by: Mapping[str, float] | None, *, has_second: bool
) -> tuple[tuple[Method, ...], FitSettings]:
    """Return the methods to fit, and how: on pictures that ODIN moved, ODIN alone and at the same temperature.

    Parameters
    ----------
    methods : sequence of str, optional
        Names asked for.
    fit : FitSettings
        Settings asked for.
    moved_by : mapping, optional
        ODIN's temperature and epsilon, where the pictures were moved.
    has_second : bool
        Whether there are features of a second model.

    Raises
    ------
    InputError
        A method is unknown, or needs a second model and there is none, or no method needs the one there is.
    FeatureError
        A method is asked for that does not go with pictures that ODIN moved.
    """
    by_default = ALL_METHODS if has_second else METHODS
    chosen = by_default if methods is None else methods_named(methods)
    of_two = [method.name for method in chosen if method in TWO_MODEL_METHODS]
    if of_two and not has_second:
        raise InputError(
            f"{of_two[0]}: takes the features of two models: name the second's (--second-features DIR)"
        )
    if has_second and not of_two:
        known = ", ".join(method.name for method in TWO_MODEL_METHODS)
        raise InputError(
            f"a second model's features are given, which only {known} reads; ask for it, or leave them out"
        )
    if moved_by is None:
        return chosen, fit
    if methods is not None and list(methods) != ["odin"]:
        raise FeatureError(
            f"these features are of pictures that ODIN moved by {moved_by['epsilon']}: only the method odin reads "
            f"them, found {', '.join(methods)}; score the others on the features of the pictures as they are"
        )
    options = {"odin": {"temperature": moved_by["temperature"], **fit.options.get("odin", {})}}
    return methods_named(["odin"]), replace(fit, options=options)


def check_baseline_is_in(chosen: Sequence[Method], baseline: str | None) -> None:
    """Refuse a baseline that is not among the methods; raises InputError."""
    names = [method.name for method in chosen]
    if baseline is not None and baseline not in names:
        raise InputError(f"baseline: expected one of the methods ({', '.join(names)}), found {baseline!r}")


def without_idle_sets(names: SetNames, methods: Sequence[Method], fit: FitSettings) -> SetNames:
    """Return `names` without the sets that no method is fitted on, so that they need not be there.

    Raises
    ------
    InputError
        A method is fitted on training features, and no set of them is named.
    """
    needing = [method.name for method in methods if method.needs != "head"]
    on_validation = [method.name for method in methods if method.is_openood_on_validation]
    if needing and names.train is None:
        raise InputError(
            f"{', '.join(needing)}: fitted on training features; name a training set, or leave them out"
        )
    has_validation = fit.mode == "openood" and on_validation
    return SetNames(
        names.ood, names.val, names.train if needing else None, names.fit_val if has_validation else None
    )
