"""Which localizer a user means: a trained one, or a CLIP model's heat map, by default that of the embeddings."""

from functools import partial
from pathlib import Path

from curation.clip import TEMPLATE_SETS, ClipEncoder, load_encoder
from curation.embedding_store import EmbeddingStore
from curation.localize.checkpoints import check_checkpoint, load_localizer
from curation.localize.heat_map import HeatMap
from curation.localize.localizer import Localizer
from curation.prototypes import class_prototypes
from manifests.errors import InputError, ModelError
from manifests.label_space import read_label_space
from manifests.workspace import Workspace


def choose_localizer(
    workspace: Workspace,
    checkpoint: Path | None = None,
    *,
    model: str | None = None,
    pretrained: str | None = None,
    embeddings: str | None = None,
    template_set: str = "openai",
    device: str = "auto",
) -> Localizer:
    """Return a localizer of a workspace's label space.

    Parameters
    ----------
    workspace : Workspace
        Screened, as that writes the label space.
    checkpoint : Path, optional
        Of a trained localizer; without it, the heat map of the CLIP model.
    model, pretrained : str, optional
        As `curation.clip.load_encoder` takes them; by default those of the embeddings.
    embeddings : str, optional
        Digest or model of the CLIP embeddings, where there are several.
    template_set : str
        Prompts of the heat map, a key of `curation.clip.TEMPLATE_SETS`.
    device : str
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    StageMissingError
        There are neither embeddings nor a model.
    InputError
        No embeddings, or those of several models, are CLIP's, or the template set is unknown.
    ModelError
        A model cannot be had, has changed since the pictures were embedded, or the checkpoint is of another.
    """
    if template_set not in TEMPLATE_SETS:
        raise InputError(f"--templates: expected {' or '.join(TEMPLATE_SETS)}, found {template_set!r}")
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    if model is not None:
        encoder = load_encoder(model, pretrained, device)
        store = None
    else:
        store = _clip_store(workspace, embeddings)
        encoder = load_encoder(store.key.model, store.key.pretrained, device)
        if encoder.digest != store.key.encoder_digest:
            raise ModelError(f"{store.key.pretrained} has changed since 'embed' used it: run 'embed' again")
    if checkpoint is not None:
        return load_localizer(checkpoint, encoder)
    return _heat_map(workspace, encoder, store, template_set)


def _heat_map(
    workspace: Workspace, encoder: ClipEncoder, store: EmbeddingStore | None, template_set: str
) -> HeatMap:
    names = [known.name for known in read_label_space(workspace.classes_path)]
    encode_names = partial(encoder.encode_class_names, template_set=template_set)
    templates = [template("{}") for template in TEMPLATE_SETS[template_set]]
    if store is None:
        return HeatMap.of_label_space(encoder, encode_names, names, encode_names(names), templates=templates)
    # The store keeps them: 80,000 texts take minutes.
    _, prototypes = class_prototypes(store, workspace.classes_path, template_set, device=str(encoder.device))
    return HeatMap.of_label_space(encoder, encode_names, names, prototypes, templates=templates)


def _clip_store(workspace: Workspace, wanted: str | None) -> EmbeddingStore:
    stores = EmbeddingStore.find(workspace, [] if wanted is None else [wanted])
    found = [store for store in stores if store.key.source == "clip"]
    if len({store.key.encoder_digest for store in found}) == 1:
        # Of one model in several tilings any will do: its prototypes are the same.
        return found[0]
    told = ", ".join(f"{store.key.digest} ({store.key.model})" for store in found) or "none"
    raise InputError(
        f"localize: expected embeddings of one CLIP model, found {told}: name one with --embeddings, or give "
        "--model and --pretrained"
    )
