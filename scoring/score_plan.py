"""What a run of `score` would do: its sets, methods and files, checked as far as that takes no computing."""

from collections.abc import Sequence
from pathlib import Path

from manifests.work_plan import WorkPlan
from scoring.feature_sets import open_feature_set
from scoring.heads import read_head
from scoring.lineage import lineage_of
from scoring.methods.table import METHODS, methods_named
from scoring.score_settings import SetNames
from scoring.second_model import read_second_model


def plan_score(
    features_dir: Path,
    names: SetNames,
    out_dir: Path,
    *,
    methods: Sequence[str] | None = None,
    second_dir: Path | None = None,
) -> WorkPlan:
    """Return which sets would be scored by which methods; parameters as of `scoring.score.score`.

    Raises
    ------
    InputError
        A method is unknown.
    FeatureError
        A set or the head is missing or damaged, or they do not fit each other; or the second model's do not fit
        those of the first.
    """
    head = read_head(features_dir)
    chosen = METHODS if methods is None else methods_named(methods)
    sets = {name: open_feature_set(features_dir, name, head) for name in dict.fromkeys((*names.of_id, *names.ood))}
    read = list(sets.items())
    warnings: tuple[str, ...] = ()
    if second_dir is not None:
        lineage = lineage_of(features_dir, head, tuple(sets))
        second = read_second_model(second_dir, features_dir, head, lineage, tuple(sets))
        read += [(name, open_feature_set(second_dir, name, second.head)) for name in sets]
        warnings = second.warnings
    return WorkPlan(
        sum(sets[name].n_images for name in names.scored), 0,
        reads=[f"{one.n_images:,} features of {name} ({one.path})" for name, one in read],
        writes=[str(out_dir / name) for name in ("scores.parquet", "results.csv", "score.json")],
        notes=[
            f"{len(chosen)} methods: {', '.join(method.name for method in chosen)}",
            "whether each of them can be fitted shows when they are",
            *warnings,
        ],
    )  # fmt: skip
