"""What a run of `embed` would do, told without loading the model, whose weights may have to be fetched first."""

from pathlib import Path

from curation.embedding_store import EmbeddingStore
from curation.feature_source import FeatureSource
from curation.store_key import StoreKey, lasting_name
from curation.store_run import pictures_missing
from manifests.stored_pictures import stored_pictures
from manifests.work_plan import WorkPlan, weights_to_fetch
from manifests.workspace import Workspace


def plan_embed(workspace: Workspace, model: str, weights: str, grid: int, *, is_fast: bool = False) -> WorkPlan:
    """Return how many pictures a store of this model lacks.

    Which store a model fills depends on its weights' digest and on the device's precision. So the one is taken
    that was made by this name, these weights and these tiles; where there are several, the last that changed.

    Parameters
    ----------
    workspace : Workspace
        With downloads.
    model, weights : str
        As `embed` keeps them: model name or path; tag or path of the weights, or of features the set.
    grid : int
        Tiles along the shorter side.
    is_fast : bool
        Whether JPEGs are decoded at reduced size.

    Raises
    ------
    StageMissingError
        There is no downloaded picture.
    """
    pictures = list(stored_pictures(workspace).values())
    wanted = (lasting_name(model), lasting_name(weights), grid, "fast" if is_fast else "exact")
    folders = sorted(workspace.embeddings_dir.glob("*/model.json"), key=lambda path: path.stat().st_mtime)
    stores = [EmbeddingStore.open(path.parent) for path in folders]
    fitting = [store for store in stores if _told_of(store.key) == wanted]
    if not fitting:
        notes = ["no store of this model and these tiles is here; its name follows from the weights"]
        writes = [f"{workspace.embeddings_dir}/<digest of the model>"]
        return WorkPlan(
            len(pictures), 0, reads=[f"{len(pictures):,} pictures"], fetches=weights_to_fetch(model, weights),
            writes=writes, notes=notes,
        ).recorded_as(workspace.root, "embed.<digest of the model>")  # fmt: skip
    store = fitting[-1]
    missing = pictures_missing(store, pictures)
    n_due = sum(map(len, missing.values()))
    return WorkPlan(
        n_due, len(pictures) - n_due, reads=[f"{n_due:,} pictures"] if n_due else [],
        fetches=weights_to_fetch(model, weights),
        writes=[str(store.folder)] if n_due else [],
        notes=[f"if the model is still that of store {store.key.digest}"],
    ).recorded_as(workspace.root, f"embed.{store.key.digest}")  # fmt: skip


def _told_of(key: StoreKey) -> tuple[str, str, int, str]:
    return key.model, key.pretrained, key.grid, key.decoding


def plan_embed_features(workspace: Workspace, features_dir: Path, feature_set: str) -> WorkPlan:
    """Return how many pictures the store of a set of features lacks; errors as of `embed_from_features`."""
    pictures = list(stored_pictures(workspace).values())
    source = FeatureSource.read(features_dir, feature_set)
    key = StoreKey("features", str(features_dir), feature_set, source.digest, source.n_features, 0)
    store = EmbeddingStore.for_key(workspace, key)
    n_due = sum(map(len, pictures_missing(store, pictures).values()))
    return WorkPlan(
        n_due, len(pictures) - n_due, reads=[f"the features {feature_set} of {features_dir}"],
        writes=[str(store.folder)] if n_due else [],
    ).recorded_as(workspace.root, f"embed.{key.digest}")  # fmt: skip
