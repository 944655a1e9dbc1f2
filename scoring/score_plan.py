"""What a run of `score` would do: its sets, methods and files, checked as far as that takes no computing."""

from collections.abc import Sequence
from pathlib import Path

from manifests.work_plan import WorkPlan
from scoring.feature_sets import open_feature_set
from scoring.heads import read_head
from scoring.methods.table import METHODS, methods_named
from scoring.score_settings import SetNames


def plan_score(
    features_dir: Path, names: SetNames, out_dir: Path, *, methods: Sequence[str] | None = None
) -> WorkPlan:
    """Return which sets would be scored by which methods.

    Raises
    ------
    InputError
        A method is unknown.
    FeatureError
        A set or the head is missing or damaged, or they do not fit each other.
    """
    head = read_head(features_dir)
    chosen = METHODS if methods is None else methods_named(methods)
    sets = {name: open_feature_set(features_dir, name, head) for name in dict.fromkeys((*names.of_id, *names.ood))}
    return WorkPlan(
        sum(sets[name].n_images for name in names.scored), 0,
        reads=[f"{one.n_images:,} features of {name} ({one.path})" for name, one in sets.items()],
        writes=[str(out_dir / name) for name in ("scores.parquet", "results.csv", "score.json")],
        notes=[
            f"{len(chosen)} methods: {', '.join(method.name for method in chosen)}",
            "whether each of them can be fitted shows when they are",
        ],
    )  # fmt: skip
