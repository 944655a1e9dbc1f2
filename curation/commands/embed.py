"""`embed`: vectors of the pictures, by CLIP, by a classifier, or out of features that are there already."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.commands.class_sources import Classifiers
from curation.commands.offered import check_clip
from curation.commands.options import EngineOption
from manifests.commands.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption, pairs
from manifests.commands.summary import announce
from manifests.completion import features_names, words
from manifests.errors import InputError
from manifests.run_report import current_report

if TYPE_CHECKING:
    from curation.embed import ModelChoice


def embed(
    classifiers: Classifiers,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: Annotated[
        str, typer.Option(help="open_clip model name, or an open_clip config file (.json).")
    ] = "ViT-B-32",
    pretrained: Annotated[
        str | None, typer.Option(help="Weights tag of that model, or a local checkpoint.")
    ] = None,
    classifier: Annotated[str | None, typer.Option(help="Instead of CLIP: timm model name.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="With --classifier: local weights instead of timm's.")
    ] = None,
    n_classes: Annotated[
        int | None, typer.Option(help="With --classifier: size of the head, where it is not timm's.")
    ] = None,
    model_arg: Annotated[
        list[str] | None, typer.Option(help="With --classifier: its argument KEY=VALUE, e.g. pad_type=same.")
    ] = None,
    preprocess: Annotated[
        list[str] | None, typer.Option(help="With --classifier: as extract-features takes it.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a model: a folder of features that are there already.", autocompletion=features_names
        ),
    ] = None,
    feature_set: Annotated[str, typer.Option("--set", help="With --features: which set.")] = "candidates",
    tiles: Annotated[
        int, typer.Option(help="Tiles along the shorter side besides the whole picture; 0 for none.")
    ] = 4,
    precision: Annotated[
        str,
        typer.Option(
            help="auto, fp32, bf16 or fp16; auto: fp16 on a GPU, else fp32.",
            autocompletion=words("auto", "fp32", "bf16", "fp16"),
        ),
    ] = "auto",
    fast_decode: Annotated[
        bool, typer.Option("--fast-decode", help="Decode JPEGs at reduced size: faster, nearly the same vectors.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Views in one call of the model.")] = 64,
    workers: Annotated[
        int | None, typer.Option(help="Threads, above 8 processes, that read ahead; default: one a core.")
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "local",
) -> None:
    """Embed every downloaded picture, whole and in tiles, with a CLIP model or a classifier.

    \b
    Example: python cli.py embed --model ViT-B-32 --pretrained laion2b_s34b_b79k --workspace workspace
    """
    # Before torch is loaded: threads of the model that spin while they wait take the cores from those that decode.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from curation.embed import EmbedRules, clip_choice, embed_from_features, embed_with
    from curation.embed_plan import plan_embed, plan_embed_features
    from curation.engine.engine import cluster_engine
    from curation.store_run import embed_summary
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    given = {
        "n_classes": n_classes,
        "model_arguments": pairs(model_arg or (), "--model-arg"),
        "preprocess": preprocess or [],
    }
    if features is not None:
        folder = space.find_features(features)
        if current_report().is_dry_run:
            current_report().plan = plan_embed_features(space, folder, feature_set)
        else:
            print(embed_summary(embed_from_features(space, folder, feature_set)))
        return
    if classifier is not None:
        choice = _classifier_choice(classifiers, classifier, checkpoint, given, device)
    elif checkpoint is not None or any(given.values()):
        raise InputError("embed: --checkpoint, --n-classes, --model-arg and --preprocess go with --classifier")
    else:
        choice = clip_choice(model, pretrained, device)
    n_workers = workers if workers is not None else os.cpu_count() or 1
    rules = EmbedRules(tiles, precision, fast_decode, batch_size, n_workers)
    if current_report().is_dry_run:
        plan = plan_embed(space, choice.model, choice.pretrained, tiles, is_fast=fast_decode)
        if classifier is None:
            check_clip(model, pretrained)
        else:
            classifiers.check(classifier, checkpoint, given)
        current_report().plan = plan
        return
    with cluster_engine(engine) as cluster:
        summary = embed_with(space, choice, rules, engine=cluster, announce=announce)
    print(embed_summary(summary))


def _classifier_choice(
    classifiers: Classifiers, model: str, checkpoint: Path | None, settings: Mapping[str, Any], device: str
) -> "ModelChoice":
    from curation.embed import ModelChoice

    load = partial(classifiers.load, model, checkpoint, settings, device)
    return ModelChoice(model, "" if checkpoint is None else str(checkpoint), load, settings)
