"""The command line: one command a stage. Each parses, calls one function, and prints a short summary.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    # Until a command runs, Ctrl-C ends the process at once and without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import ast
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from manifests.completion import Completer, names_below
from manifests.errors import InputError
from manifests.run_report import NextStep, current_report
from manifests.stage_commands import StageApp, run_app

if TYPE_CHECKING:
    from curation.duplicates.rules import DuplicateRules
    from curation.embed import ModelChoice
    from curation.embedding_store import EmbeddingStore, StoreKey
    from curation.encoder import Encoder
    from curation.prototypes import Prototypes
    from curation.releases import ReleaseCache
    from curation.screening.sources import ClassSource
    from manifests.label_space import ClassName
    from manifests.report.parts import Section
    from manifests.workspace import Workspace
    from scoring.classifier_encoder import ClassifierEncoder
    from scoring.odin_input import OdinInput
    from scoring.zero_shot import ZeroShotModel

TINY_CLASSIFIER = Path(__file__).parent / "scoring" / "sample" / "weights" / "tiny_classifier.safetensors"

# Their workspace is none, or they tell the next step themselves.
_WITHOUT_NEXT = frozenset({"bench", "status"})


def _next_step(command: str, workspace: Path, given: Mapping[str, Any]) -> NextStep | None:
    """Return what follows a command, where its workspace is one."""
    if command in _WITHOUT_NEXT or not (workspace / "provenance").is_dir():
        return None
    from manifests.next_step import next_step
    from manifests.workspace import Workspace

    return next_step(Workspace(workspace), given)


def _method_names(_: typer.Context) -> list[str]:
    """Return the names of the methods out of their table as it is written: to import it takes seconds."""
    table = ast.parse((Path(__file__).parent / "scoring" / "methods" / "table.py").read_text(encoding="utf-8"))
    calls = [one for one in ast.walk(table) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    return [str(ast.literal_eval(one.args[0])) for one in calls if ast.unparse(one.func) == "Method" and one.args]


_QUALITY_CHECKS = ("blur", "dark", "low_information", "odd_size", "extreme_aspect", "near_empty")

# What a shell offers for values of options; said again here, as to import them from their home takes seconds.
_COMPLETIONS: Mapping[str, Sequence[str] | Completer] = {
    "baseline": _method_names,
    "decisions.action": ("verify", "merge"),
    "device": ("auto", "cpu", "cuda"),
    "dim_rule": ("repo", "paper"),
    "drop_quality": _QUALITY_CHECKS,
    "embeddings": names_below("embeddings", "*/model.json"),
    "engine": ("local", "ray"),
    "exclude_quality": _QUALITY_CHECKS,
    "export_format": (
        "openood", "pytorch-ood", "torch", "torchvision", "huggingface", "webdataset", "croissant", "fiftyone",
        "csv",
    ),
    "audit.action": ("plan", "report"),
    "audit.name": names_below("audits", "*.json"),
    "diff.after": names_below("manifests", "*/manifest.json"),
    "diff.before": names_below("manifests", "*/manifest.json"),
    "features": names_below("features", "*/head.safetensors"),
    "file_format": ("png", "svg", "pdf"),
    "manifest": names_below("manifests", "*/manifest.json"),
    "map_method": ("pca", "umap"),
    "method": _method_names,
    "mode": ("authors", "openood"),
    "official": ("vim", "openood"),
    "order": ("risk", "random"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "prototypes": ("names", "exemplars", "fused"),
    "queue": ("first", "inspection", "dispute", "gold", "audit"),
    "release": ("v3", "v7"),
    "retry": ("missing", "placeholder", "not_an_image", "undecodable", "too_large", "refused", "failed"),
    "scores": names_below("scores", "*/scores.parquet"),
    "simulate-annotators.queue": ("first", "audit"),
    "size": ("tiny", "small", "vit", "bit"),
    "source": ("human", "machine"),
    "subset": ("train", "validation", "test"),
    "templates": ("openai", "simple"),
    "what": lambda _: list(_BENCH_FLAGS),
}  # fmt: skip

app = StageApp(
    next_step=_next_step,
    completions=_COMPLETIONS,
    help="Curate, annotate, freeze and score an out-of-distribution benchmark for ImageNet-1K out of Open Images.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

WorkspaceOption = Annotated[Path, typer.Option(help="Folder of tables, pictures and logs.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
CacheOption = Annotated[
    Path | None, typer.Option(help="With --release: folder of fetched files; default: the user's cache folder.")
]
AllowPrivateOption = Annotated[
    bool, typer.Option("--allow-private", help="Let private and loopback addresses pass.")
]
ProxyOption = Annotated[str | None, typer.Option(help="http://HOST:PORT; the environment's are not used.")]
AddressOption = Annotated[str, typer.Option(help="IP address to listen on; not encrypted.")]
PortOption = Annotated[int, typer.Option(help="Port of the App; 0: the usual one of this workspace.")]
OpenBrowserOption = Annotated[bool, typer.Option("--open-browser", help="Open the page in the browser.")]
ReleaseMirrorOption = Annotated[str | None, typer.Option(help="With --release: a mirror of Open Images' files.")]
ProposingOption = Annotated[str | None, typer.Option(help="Digest of the embeddings that propose pairs too.")]
EngineOption = Annotated[
    str, typer.Option(help="Where shards run: local, or ray (RAY_ADDRESS names the cluster).")
]
EmbeddingsOption = Annotated[
    list[str] | None, typer.Option(help="Digest or model of the embeddings to use; repeatable; default: all.")
]
ClassesOption = Annotated[Path | None, typer.Option(help="CSV class_index,name[,wnid]; default: ImageNet-1K.")]
TemplatesOption = Annotated[str, typer.Option(help="Prompt ensemble: openai (80) or simple (7).")]
ExemplarsOption = Annotated[
    Path | None, typer.Option(help="Example pictures of the classes: <wnid>/ or <class_index>/ folders.")
]
PrototypesOption = Annotated[
    str | None, typer.Option(help="names, exemplars or fused; default: fused with --exemplars, else names.")
]
MasksOption = Annotated[
    bool, typer.Option("--masks", help="Take what 'localize --dropped' found small in a picture for its risk too.")
]
DEFAULT_WORKSPACE = Path("workspace")


def _announce(line: str) -> None:
    print(line, file=sys.stderr)


def _counted(stage: str, counts: dict[str, int]) -> None:
    current_report().counts |= counts
    print(f"{stage}: " + ", ".join(f"{word} {n:,}" for word, n in sorted(counts.items())))


def _pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """Return ``key=value`` arguments as a dict."""
    pairs = dict(value.partition("=")[::2] for value in values)
    if any("=" not in value for value in values):
        raise InputError(f"{flag}: expected KEY=VALUE, found {next(v for v in values if '=' not in v)!r}")
    return pairs


# What only requests need, of the files of a release and of pictures.
_FETCHING = ("cache", "base_url", "allow_private", "proxy")
_REQUESTING = (
    "base_url", "allow_private", "allow_host", "workers", "rate", "deadline", "proxy", "ca_bundle", "contact",
)  # fmt: skip


def _refuse_without_effect(context: typer.Context, reason: str, names: Iterable[str]) -> None:
    """Refuse flags that were given and would do nothing: whoever gives one expects that it does."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            hint = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"it has no effect {reason}: leave it out", context, param_hint=hint)


def _release_cache(folder: Path | None, base_url: str | None, **fetching: Any) -> "ReleaseCache":
    from curation.releases import cache_at

    return cache_at(folder, base_url, _announce, is_read_only=current_report().is_dry_run, **fetching)


def _plans_to_fetch(cache: "ReleaseCache", names: Sequence[str]) -> bool:
    """Return whether this is a dry run that ends here, with a plan of the files to fetch first."""
    from manifests.work_plan import WorkPlan

    if not current_report().is_dry_run or not (fetches := cache.fetches(names)):
        return False
    current_report().plan = WorkPlan(
        len(fetches), len(names) - len(fetches), unit="files", fetches=fetches,
        writes=[str(cache.folder / name) for name in names if not (cache.folder / name).exists()],
        notes=["what is in them shows when they are here: a dry run then counts it"],
    )  # fmt: skip
    return True


@app.command(dry_run=True)
def candidates(
    context: typer.Context,
    metadata: Annotated[
        Path | None, typer.Option(help="images.csv, its .tar.gz, *-with-rotation.csv, or a list of ids (.txt).")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    release: Annotated[str | None, typer.Option(help="Fetch the metadata of v3 or v7 instead.")] = None,
    cache: CacheOption = None,
    base_url: ReleaseMirrorOption = None,
    allow_private: AllowPrivateOption = False,
    proxy: ProxyOption = None,
    image_ids: Annotated[Path | None, typer.Option(help="Keep only the images of this list.")] = None,
    subset: Annotated[str | None, typer.Option(help="Keep only train, validation or test.")] = None,
    limit: Annotated[int | None, typer.Option(help="Keep the first N images.", min=1)] = None,
    drop_original_duplicates: Annotated[
        bool, typer.Option("--drop-original-duplicates", help="Of equal originals, keep the first by id.")
    ] = False,
) -> None:
    """Read Open Images metadata and propose its images.

    \b
    Example: python cli.py candidates --metadata test-images-with-rotation.csv --workspace workspace
    """
    from curation.candidates import Choice, propose_candidates
    from curation.releases import metadata_file
    from manifests.workspace import Workspace

    if (metadata is None) == (release is None):
        raise InputError("candidates: expected either --metadata FILE or --release v3|v7")
    if release is not None:
        fetched = _release_cache(cache, base_url, allow_private=allow_private, proxy=proxy)
        name = metadata_file(release, subset)
        if _plans_to_fetch(fetched, [name]):
            return
        metadata = fetched.fetch(name)
    else:
        _refuse_without_effect(context, "with --metadata", _FETCHING)
    choice = Choice(image_ids, subset, limit, drop_original_duplicates)
    _counted("candidates", propose_candidates(Workspace(workspace), Path(str(metadata)), choice))


@app.command(dry_run=True)
def labels(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    human: Annotated[
        list[Path] | None, typer.Option(help="Labels that people verified: CSV or V3's .tar.gz; repeatable.")
    ] = None,
    machine: Annotated[
        list[Path] | None, typer.Option(help="Labels of a classifier: CSV or V3's .tar.gz; repeatable.")
    ] = None,
    class_names: Annotated[
        Path | None, typer.Option(help="class-descriptions.csv, or the .tar.gz that holds it.")
    ] = None,
    release: Annotated[str | None, typer.Option(help="Fetch the files of v3 or v7 instead of these.")] = None,
    subset: Annotated[
        list[str] | None, typer.Option(help="With --release: train, validation or test; default: test.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="With --release: human or machine; default: both.")
    ] = None,
    cache: CacheOption = None,
    base_url: ReleaseMirrorOption = None,
    allow_private: AllowPrivateOption = False,
    proxy: ProxyOption = None,
) -> None:
    """Collect what Open Images' people and classifiers say is in each candidate.

    \b
    Example: python cli.py labels --release v7 --subset test --workspace workspace
    """
    from curation.labels import LabelFiles, collect_labels
    from curation.releases import class_names_file, fetch_label_files, label_file_names
    from manifests.workspace import Workspace

    given = bool(human or machine or class_names)
    if given == (release is not None) or (given and class_names is None):
        raise InputError("labels: expected either --release v3|v7, or --class-names and --human or --machine")
    if release is not None:
        fetched = _release_cache(cache, base_url, allow_private=allow_private, proxy=proxy)
        names = label_file_names(release, subset or ("test",), source or ())
        if _plans_to_fetch(fetched, [*chain(*names.values()), class_names_file(release)]):
            return
        files = LabelFiles(*fetch_label_files(fetched, release, subset or ("test",), source or ()))
    else:
        _refuse_without_effect(context, "without --release", ("subset", "source", *_FETCHING))
        files = LabelFiles(human or (), machine or (), Path(str(class_names)))
    _counted("labels", collect_labels(Workspace(workspace), files))


@app.command(dry_run=True)
def download(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    base_url: Annotated[str | None, typer.Option(help="A mirror with pictures at URL/<subset>/<id>.jpg.")] = None,
    allow_private: AllowPrivateOption = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Also ask this host: NAME, NAME:PORT or *.DOMAIN.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Requests to one host at a time.")] = 16,
    rate: Annotated[float, typer.Option(help="Most requests a second to one host.")] = 2000.0,
    deadline: Annotated[float, typer.Option(help="Seconds for one picture, retries and waits included.")] = 120.0,
    proxy: ProxyOption = None,
    ca_bundle: Annotated[Path | None, typer.Option(help="Certificates to trust, beside no others.")] = None,
    contact: Annotated[str | None, typer.Option(help="URL or address that the User-Agent names.")] = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="Fetch images of this status again, e.g. failed.")
    ] = None,
    from_tar: Annotated[
        list[Path] | None, typer.Option(help="Take the pictures from this official archive instead.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read stored pictures again; replace what has changed.")
    ] = False,
    max_failures: Annotated[
        float, typer.Option(help="Largest share of images without a picture; above it, exit 1.")
    ] = 0.05,
    wait: Annotated[bool, typer.Option("--wait", help="Wait where another process is at work here.")] = False,
    engine: EngineOption = "local",
) -> None:
    """Download every candidate that is not there yet, with a status and a reason for each.

    \b
    Example: python cli.py download --workspace workspace --retry failed
    """
    from curation.download import check_arguments, download_pictures
    from curation.download_plan import DownloadRequest, plan_download
    from curation.engine.engine import cluster_engine
    from curation.fetch import FetchPolicy
    from manifests.workspace import Workspace

    if from_tar:
        _refuse_without_effect(context, "with --from-tar", _REQUESTING)
    policy = FetchPolicy(
        allow_private=allow_private, host_requests_per_s=rate, deadline_s=deadline, proxy=proxy,
        ca_bundle=str(ca_bundle) if ca_bundle else None, contact=contact,
        allowed_hosts=FetchPolicy.allowed_hosts | set(allow_host or ()),
    )  # fmt: skip
    if current_report().is_dry_run:
        check_arguments(workers, retry or (), max_failures)
        request = DownloadRequest(base_url, tuple(from_tar or ()), frozenset(retry or ()), verify)
        current_report().plan = plan_download(Workspace(workspace), request).recorded_as(workspace, "download")
        return
    with cluster_engine(engine) as cluster:
        counts = download_pictures(
            Workspace(workspace, announce_wait=_announce if wait else None), base_url=base_url, policy=policy,
            n_workers=workers, retry=retry or (), max_failures=max_failures, verify=verify,
            tar_paths=from_tar or (), engine=cluster, announce=_announce,
        )  # fmt: skip
    current_report().written += [workspace / "images", workspace / "downloads.jsonl"]
    _counted("download", counts)


@app.command(dry_run=True)
def embed(
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
        Path | None, typer.Option(help="Instead of a model: a folder of features that are there already.")
    ] = None,
    feature_set: Annotated[str, typer.Option("--set", help="With --features: which set.")] = "candidates",
    tiles: Annotated[
        int, typer.Option(help="Tiles along the shorter side besides the whole picture; 0 for none.")
    ] = 4,
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16 or fp16; auto: fp16 on a GPU, else fp32.")
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
        "model_arguments": _pairs(model_arg or (), "--model-arg"),
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
        choice = _classifier_choice(classifier, checkpoint, given, device)
    elif checkpoint is not None or any(given.values()):
        raise InputError("embed: --checkpoint, --n-classes, --model-arg and --preprocess go with --classifier")
    else:
        choice = clip_choice(model, pretrained, device)
    n_workers = workers if workers is not None else os.cpu_count() or 1
    rules = EmbedRules(tiles, precision, fast_decode, batch_size, n_workers)
    if current_report().is_dry_run:
        plan = plan_embed(space, choice.model, choice.pretrained, tiles, is_fast=fast_decode)
        _check_model(model, pretrained, classifier, checkpoint, given)
        current_report().plan = plan
        return
    with cluster_engine(engine) as cluster:
        summary = embed_with(space, choice, rules, engine=cluster, announce=_announce)
    print(embed_summary(summary))


def _check_model(
    clip: str, pretrained: str | None, classifier: str | None, checkpoint: Path | None, given: Mapping[str, Any]
) -> None:
    """Check a model's arguments as its stage would, as far as that takes no weights: a dry run ends here."""
    if classifier is None:
        from curation.clip import checked_model

        checked_model(clip, pretrained)
        return
    from scoring.classifier import check_classifier
    from scoring.named_preprocessing import preprocessing_changes

    check_classifier(
        classifier, checkpoint=checkpoint, n_classes=given["n_classes"], model_arguments=given["model_arguments"],
        preprocessing=preprocessing_changes(given["preprocess"], classifier),
    )  # fmt: skip


def _classifier_choice(
    model: str, checkpoint: Path | None, settings: Mapping[str, Any], device: str
) -> "ModelChoice":
    from curation.embed import ModelChoice
    from scoring.classifier_encoder import load_classifier_encoder

    load = partial(load_classifier_encoder, model, checkpoint, settings, device)
    return ModelChoice(model, "" if checkpoint is None else str(checkpoint), load, settings)


def _real_classifier(data_dir: Path, device: str) -> "ClassifierEncoder":
    """Load the classifier of a folder of real pictures, as `demo --real` does."""
    from scoring.classifier_encoder import load_classifier_encoder

    settings = {
        "n_classes": 1000,
        "model_arguments": {"pad_type": "same"},
        "preprocess": ["mean=0.5,0.5,0.5", "std=0.5,0.5,0.5", "interpolation=bilinear"],
    }
    checkpoint = data_dir / "classifier" / "mobilenetv2_100.safetensors"
    return load_classifier_encoder("mobilenetv2_100", checkpoint, settings, device)


def _encoder_of_store(key: "StoreKey", device: str) -> "Encoder":
    """Load the encoder that an embedding store was made with, for `class_prototypes`."""
    from curation.prototypes import load_clip_of
    from scoring.classifier_encoder import load_classifier_encoder

    if key.source != "classifier":
        return load_clip_of(key, device)
    checkpoint = Path(key.pretrained) if key.pretrained else None
    return load_classifier_encoder(key.model, checkpoint, key.settings, device)


def _class_sources(
    space: "Workspace", embeddings: Sequence[str], classes: Path | None, templates: str, exemplars: Path | None,
    prototypes: str | None, device: str,
) -> "tuple[list[ClassName], list[ClassSource]]":  # fmt: skip
    from curation.prototypes import class_prototypes
    from curation.screening.sources import open_sources

    def prototypes_of(store: "EmbeddingStore") -> "tuple[list[ClassName], Prototypes]":
        return class_prototypes(
            store, classes, templates, exemplars, kind=prototypes, device=device, load=_encoder_of_store,
            announce=_announce,
        )  # fmt: skip

    return open_sources(space, embeddings, prototypes_of=prototypes_of, announce=_announce)


@app.command(dry_run=True)
def quality(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 2,
) -> None:
    """Score and flag pictures that are blurred, dark, of low information, odd in size or shape, or near empty.

    \b
    Example: python cli.py quality --workspace workspace
    """
    from curation.screening.quality import measure_quality, plan_quality
    from manifests.workspace import Workspace

    if current_report().is_dry_run:
        current_report().plan = plan_quality(Workspace(workspace)).recorded_as(workspace, "quality")
        return
    _counted("quality", measure_quality(Workspace(workspace), n_workers=workers))


@app.command(dry_run=True, is_long=True)
def calibrate(
    labelled: Annotated[
        Path,
        typer.Option(
            help="CSV image_id,truth (in, out, or others, left alone); risk is a probability for their mix alone."
        ),
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    out: Annotated[
        Path | None, typer.Option(help="The calibration; default: <workspace>/calibration.json.")
    ] = None,
    max_lost: Annotated[
        float,
        typer.Option(help="Goal: expected share of truly OOD pictures dropped; 0.005 needs 199 out to fit on."),
    ] = 0.005,
    embeddings: EmbeddingsOption = None,
    classes: ClassesOption = None,
    templates: TemplatesOption = "openai",
    exemplars: ExemplarsOption = None,
    prototypes: PrototypesOption = None,
    seed: Annotated[int, typer.Option(help="Of the split into a half to fit on and one to take figures on.")] = 0,
    masks: MasksOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Make risk a probability, and choose what to drop, on pictures whose truth is known.

    \b
    Example: python cli.py calibrate --labelled truth.csv --max-lost 0.005 --workspace workspace
    """
    from curation.screening.calibrate import calibrate as calibrate_risk
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    known, sources = _class_sources(space, embeddings or (), classes, templates, exemplars, prototypes, device)
    out_path = out or space.root / "calibration.json"
    summary = calibrate_risk(
        space, known, sources, labelled, out_path, max_lost=max_lost, seed=seed, has_masks=masks,
        announce=_announce,
    )  # fmt: skip
    print(
        f"calibrate: fitted on {summary.n_fit:,}, held out {summary.n_held_out:,}, {summary.n_copies:,} copies, "
        f"{summary.n_absent:,} not here, {summary.n_other_words:,} neither in nor out; {out_path}, "
        f"{summary.plot_path}\n"
        f"  risk is a probability where, as here, {summary.share_in:.0%} are in\n"
        f"  held out: AUROC {summary.auroc:.4f}, expected calibration error "
        f"{summary.expected_calibration_error:.4f}"
    )
    print(summary.point)


AgreementOption = Annotated[
    float | None, typer.Option(help="Least agreement, 0 to 1, of two pictures laid over each other; default 0.7.")
]
SimilarityOption = Annotated[
    float | None,
    typer.Option(help="Least cosine of a pair that is looked at; default: by the embeddings' source."),
]
BitsOption = Annotated[
    int | None, typer.Option(help="Most differing bits, of 64, of a pair that is looked at; default: by number.")
]
CropsOption = Annotated[
    bool | None,
    typer.Option("--crops/--no-crops", help="Look for crops by hash too; default: up to 20,000 pictures."),
]
ReadersOption = Annotated[int | None, typer.Option(help="Processes that read pictures; default: one a core.")]


def _duplicate_rules(
    least_agreement: float | None, least_similarity: float | None, most_bits: int | None, crops: bool | None
) -> "DuplicateRules":
    from curation.duplicates.rules import DuplicateRules

    rules = DuplicateRules(most_bits=most_bits, least_similarity=least_similarity, has_crops=crops)
    return rules if least_agreement is None else replace(rules, least_agreement=least_agreement)


@app.command(dry_run=True, is_long=True)
def duplicates(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    embeddings: ProposingOption = None,
    least_agreement: AgreementOption = None,
    least_similarity: SimilarityOption = None,
    most_bits: BitsOption = None,
    crops: CropsOption = None,
    workers: ReadersOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "local",
) -> None:
    """Find pictures that show the same photograph, by bytes, hash and embedding; `screen` does so by itself.

    \b
    Example: python cli.py duplicates --workspace workspace
    """
    from curation.duplicates.find import mark_duplicates
    from curation.engine.engine import cluster_engine
    from manifests.workspace import Workspace

    rules = _duplicate_rules(least_agreement, least_similarity, most_bits, crops)
    with cluster_engine(engine) as cluster:
        counts = mark_duplicates(
            Workspace(workspace), rules, embeddings=embeddings, device=device,
            n_workers=workers or os.cpu_count() or 1, engine=cluster,
        )  # fmt: skip
    _counted("duplicates", counts)


@app.command(dry_run=True, is_long=True)
def leaks(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of pictures, or workspace, of another set; repeatable; later runs keep it."),
    ] = None,
    against_list: Annotated[
        list[Path] | None, typer.Option(help="List of another set's Open Images ids; repeatable.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV image_id,other,is_same: choose the least agreement on these.")
    ] = None,
    least_precision: Annotated[float, typer.Option(help="With --pairs: what the bound must reach.")] = 0.99,
    embeddings: ProposingOption = None,
    least_agreement: AgreementOption = None,
    least_similarity: SimilarityOption = None,
    most_bits: BitsOption = None,
    crops: CropsOption = None,
    workers: ReadersOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Find candidates that are in another data set too, such as ImageNet's own pictures; `screen` drops them.

    \b
    Example: python cli.py leaks --against imagenet/val --against-list openimage_o.txt --workspace workspace
    """
    from curation.duplicates.leaks import OtherSets, find_leaks
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    rules = _duplicate_rules(least_agreement, least_similarity, most_bits, crops)
    n_workers = workers or os.cpu_count() or 1
    if pairs is not None:
        from curation.duplicates.labelled_pairs import bound_of_pairs

        if least_agreement is not None:
            raise InputError("leaks: --pairs chooses what --least-agreement gives; expected one of them")
        bound, table = bound_of_pairs(space, pairs, least_precision)
        print(table)
        rules = replace(rules, least_agreement=bound)
    others = OtherSets(against or (), against_list or ())
    counts = find_leaks(
        space, others, rules, embeddings=embeddings, device=device, n_workers=n_workers, announce=_announce
    )
    _counted("leaks", counts)


@app.command(dry_run=True, is_long=True)
def screen(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    calibration: Annotated[
        Path | None, typer.Option(help="Of 'calibrate'; without it, nothing is dropped as in-class.")
    ] = None,
    max_lost: Annotated[float | None, typer.Option(help="With --calibration: another goal than its own.")] = None,
    embeddings: EmbeddingsOption = None,
    classes: ClassesOption = None,
    templates: TemplatesOption = "openai",
    exemplars: ExemplarsOption = None,
    prototypes: PrototypesOption = None,
    control_share: Annotated[
        float, typer.Option(help="Share of what is dropped as in-class that annotators get all the same.")
    ] = 0.05,
    drop_quality: Annotated[
        list[str] | None, typer.Option(help="Drop what this check of 'quality' flags; repeatable.")
    ] = None,
    masks: MasksOption = False,
    least_agreement: AgreementOption = None,
    least_similarity: SimilarityOption = None,
    most_bits: BitsOption = None,
    crops: CropsOption = None,
    seed: Annotated[int, typer.Option(help="Chooses the control images.")] = 0,
    explain: Annotated[
        str | None, typer.Option(help="Screen nothing: draw what the last screen saw of this image.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="With --explain: the picture; default: IMAGE_ID.png.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Compare embeddings with the classes: ten to show, a risk, near-duplicates, what to drop.

    \b
    Example: python cli.py screen --calibration workspace/calibration.json --workspace workspace
    """
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    if explain is not None:
        from curation.screening.plots.explain import explain as draw

        path = out or Path(f"{explain}.png")
        draw(space, explain, path)
        print(f"screen: {path}")
        return
    from curation.screening.screen import ScreenRules, screen_pictures

    rules_of_duplicates = _duplicate_rules(least_agreement, least_similarity, most_bits, crops)
    rules = ScreenRules(max_lost, control_share, tuple(drop_quality or ()), rules_of_duplicates, seed, masks)
    known, sources = _class_sources(space, embeddings or (), classes, templates, exemplars, prototypes, device)
    summary = screen_pictures(space, known, sources, rules, calibration_path=calibration, announce=_announce)
    _counted("screen", summary.counts)
    if summary.operating_point is not None:
        print(summary.operating_point)


@app.command(dry_run=True)
def localize(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Of 'train-localizer'; default: CLIP's heat map, without training.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="open_clip model name or config; default: that of the embeddings.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="With --model: its weights tag, or a local checkpoint.")
    ] = None,
    embeddings: Annotated[
        str | None, typer.Option(help="Digest of the CLIP embeddings, where there are several.")
    ] = None,
    templates: TemplatesOption = "openai",
    has_dropped: Annotated[
        bool, typer.Option("--dropped", help="What the screen dropped too, as 'screen --masks' needs it.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="New pictures at most.")] = None,
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 2,
    device: DeviceOption = "auto",
) -> None:
    """Show annotators where in a picture each class might be: a mask a picture under review and class shown.

    \b
    Example: python cli.py localize --workspace workspace
    """
    if model is None:
        _refuse_without_effect(context, "without --model", ["pretrained"])
    else:
        _refuse_without_effect(context, "with --model", ["embeddings"])
    if checkpoint is not None:
        _refuse_without_effect(context, "with --checkpoint", ["templates"])
    from curation.localize.loading import choose_localizer
    from curation.localize.localize import LocalizeRules, localize_pictures, plan_localize
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    load = partial(
        choose_localizer, space, checkpoint, model=model, pretrained=pretrained, embeddings=embeddings,
        template_set=templates, device=device,
    )  # fmt: skip
    told = {
        "checkpoint": None if checkpoint is None else str(checkpoint), "model": model, "pretrained": pretrained,
        "embeddings": embeddings, "templates": templates, "device": device,
    }  # fmt: skip
    rules = LocalizeRules(has_dropped, limit, workers)
    if current_report().is_dry_run:
        current_report().plan = plan_localize(space, told, rules).recorded_as(workspace, "localize")
        return
    print(localize_pictures(space, load, told, rules, announce=_announce))


@app.command()
def annotate(
    annotator: Annotated[list[str], typer.Option(help="Who answers; names the decisions log; repeatable.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    queue: Annotated[str, typer.Option(help="first, dispute, inspection, gold or audit.")] = "first",
    votes: Annotated[
        int | None,
        typer.Option(help="How many annotators answer each picture; default: as for the last consensus, or 2."),
    ] = None,
    order: Annotated[str, typer.Option(help="risk (riskiest first) or random.")] = "risk",
    seed: Annotated[int, typer.Option(help="Of the random order, of shares and of gold.")] = 0,
    team: Annotated[str, typer.Option(help="ann,ben,cem: all who share out the first round.")] = "",
    gold_share: Annotated[float, typer.Option(help="Share of pictures with a known answer mixed in.")] = 0.05,
    sample: Annotated[int | None, typer.Option(help="Pictures of a new inspection round.")] = None,
    own_disputes: Annotated[
        bool, typer.Option("--own-disputes", help="Rule also on disputes in which the adjudicator voted.")
    ] = False,
    examples: Annotated[
        Path | None, typer.Option(help="Example pictures: <class_index>/ or <wnid>/ folders.")
    ] = None,
    guideline: Annotated[
        Path | None, typer.Option(help="Instructions in Markdown; default: those of the toolkit.")
    ] = None,
    address: AddressOption = "127.0.0.1",
    port: PortOption = 0,
    open_browser: OpenBrowserOption = False,
) -> None:
    """Serve a queue of pictures to one or more annotators in the FiftyOne App.

    \b
    Example: python cli.py annotate --annotator ana --workspace workspace
    """
    from annotation import annotate as serving
    from annotation.serving import Place
    from manifests.workspace import Workspace

    names = tuple(filter(None, team.split(",")))
    choice = serving.QueueChoice(queue, votes, order, seed, names, gold_share, sample, own_disputes)
    sessions = serving.annotate(
        Workspace(workspace),
        annotator,
        choice,
        examples_dir=examples,
        guideline_path=guideline or serving.GUIDELINE_PATH,
        place=Place(address, port),
        open_browser=open_browser,
    )
    for session in sessions:
        print(f"annotate: {session.annotator_id} answered {session.n_answered:,}, {session.n_left:,} left")


@app.command()
def browse(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    embeddings: Annotated[
        str | None, typer.Option(help="Digest or model of the embeddings; default: those of CLIP.")
    ] = None,
    map_method: Annotated[
        str, typer.Option("--map", help="Map of the embeddings: pca, or umap (needs umap-learn).")
    ] = "pca",
    address: AddressOption = "127.0.0.1",
    port: PortOption = 0,
    open_browser: OpenBrowserOption = False,
) -> None:
    """Show a curator all pictures and all that is known of them in the FiftyOne App.

    \b
    Example: python cli.py browse --workspace workspace
    """
    from annotation.browse import browse as serve
    from annotation.serving import Place
    from manifests.workspace import Workspace

    n_pictures = serve(
        Workspace(workspace), embeddings=embeddings, map_method=map_method, place=Place(address, port),
        open_browser=open_browser,
    )  # fmt: skip
    print(f"browse: {n_pictures:,} pictures")


@app.command(dry_run=True)
def consensus(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    votes: Annotated[
        int | None, typer.Option(help="Answers that an image needs; default: as the last time, at first 2.", min=1)
    ] = None,
    majority: Annotated[
        float | None,
        typer.Option(help="Share of them that must agree, above 0.5; default: as the last time, at first 1."),
    ] = None,
    set_aside: Annotated[
        list[str] | None,
        typer.Option(help="Keep an annotator's answers, count none; repeatable; default: as the last time."),
    ] = None,
    reset_rule: Annotated[
        bool, typer.Option("--reset-rule", help="Forget the last rule: 2 votes, all agreed, nobody set aside.")
    ] = False,
    accept_changed_logs: Annotated[
        bool,
        typer.Option("--accept-changed-logs", help="Go on although a log lost or changed what was read of it."),
    ] = False,
) -> None:
    """Turn answers, rulings and inspections into verdicts: agreed out, in or difficult; disputed; open.

    \b
    Example: python cli.py consensus --votes 2 --workspace workspace
    """
    from annotation.consensus import recorded_rule, run_consensus
    from annotation.verdicts import ConsensusRule
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    last = ConsensusRule() if reset_rule else recorded_rule(space)
    rule = ConsensusRule(
        last.n_votes if votes is None else votes,
        last.majority if majority is None else majority,
        last.set_aside if set_aside is None else tuple(sorted(set(set_aside))),
    )
    summary = run_consensus(space, rule, accept_changed_logs=accept_changed_logs)
    _counted(f"consensus of {summary.n_annotators} annotators", dict(summary.n_by_verdict))
    print(f"  rule: {rule}")
    for change in summary.accepted_changes:
        print(f"  accepted, and recorded: {change}")
    if summary.n_gold:
        print(f"  {summary.n_gold:,} gold images are under review: they are asked as gold and get no verdict")
    if summary.n_by_source["adjudication"] or summary.n_by_source["inspection"]:
        print("  settled or disputed by " + ", ".join(f"{word} {n:,}" for word, n in summary.n_by_source.items()))
    if summary.n_sent_back:
        print(f"  {summary.n_sent_back:,} of the open images were sent back by an inspection")
    if summary.n_answers_outside:
        print(f"  {summary.n_answers_outside:,} answers are on images no longer under review; the logs keep them")
    for line in summary.standstill.lines():
        print(f"  {line}")


@app.command(dry_run=True)
def gold(
    add: Annotated[Path, typer.Option(help="CSV image_id,answer[,class_index][,note] of known answers.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Add images whose answer is known, which annotators meet unmarked among the others.

    \b
    Example: python cli.py gold --add gold.csv --workspace workspace
    """
    from annotation.gold import add_gold, gold_without_classes
    from manifests.workspace import Workspace

    _counted("gold", add_gold(Workspace(workspace), add))
    bare = gold_without_classes(Workspace(workspace))
    if bare:
        print(
            f"gold: {len(bare):,} images are shown beside no classes, which tells them from the rest: the screen "
            f"has none for {', '.join(bare[:3])}{', ...' * (len(bare) > 3)}",
            file=sys.stderr,
        )


@app.command(dry_run=True)
def inspect(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    sample: Annotated[int | None, typer.Option(help="Draw a round of this many agreed images.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="With --sample: of the draw.")] = 0,
    max_defects: Annotated[
        float, typer.Option(help="With --sample: a stratum with more of its sample defective is sent back.")
    ] = 0.02,
    report: Annotated[bool, typer.Option("--report", help="Print what the rounds so far have found.")] = False,
) -> None:
    """Draw a random round of inspection over agreed images, or report the defect rates found.

    \b
    Example: python cli.py inspect --sample 300 --workspace workspace
    """
    from annotation.inspection import draw_round, inspection_report
    from manifests.workspace import Workspace

    if (sample is not None) == report:
        raise InputError("inspect: expected either --sample N or --report")
    if sample is None:
        _refuse_without_effect(context, "with --report", ("seed", "max_defects"))
        print(inspection_report(Workspace(workspace)))
        return
    drawn = draw_round(Workspace(workspace), sample, seed=seed, max_defects=max_defects)
    _counted(f"inspect: round {drawn.number}", {stratum.name: len(stratum.sample) for stratum in drawn.strata})
    print("  answer it with: python cli.py annotate --queue inspection")


@app.command(dry_run=True)
def decisions(
    action: Annotated[str, typer.Argument(metavar="verify|merge", help="What to do with the logs.")],
    others: Annotated[
        list[Path] | None, typer.Option("--from", help="With merge: workspace whose logs to take; repeatable.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
) -> None:
    """Verify the hash chains of the annotators' logs, or merge in those of other workspaces.

    \b
    Example: python cli.py decisions merge --from ../laptop/workspace --workspace workspace
    """
    if action == "verify" and not others:
        _verify_decisions(workspace)
    elif action == "merge" and others:
        _merge_decisions(workspace, others)
    else:
        raise InputError("decisions: expected either 'verify', or 'merge' with --from WORKSPACE")


def _verify_decisions(workspace: Path) -> None:
    from annotation.merge import check_logs
    from manifests.workspace import Workspace

    checks = check_logs(Workspace(workspace))
    for check in checks:
        problem = f"; {check.problem}" if check.problem else ""
        print(f"{check.annotator_id}: {check.n_lines:,} lines in order{problem}")
    bad = [check.annotator_id for check in checks if check.problem]
    if bad:
        raise InputError(f"decisions: {len(bad)} of {len(checks)} logs are damaged: {', '.join(bad)}")


def _merge_decisions(workspace: Path, others: Sequence[Path]) -> None:
    from annotation.merge import merge_logs
    from manifests.workspace import Workspace

    summary = merge_logs(Workspace(workspace), others)
    _counted("decisions taken over", summary.n_added)
    unknown = summary.unknown_image_ids
    if unknown:
        print(f"  {len(unknown):,} images answered are no candidates here, first {unknown[0]}; all are kept")


@app.command("simulate-annotators", dry_run=True)
def simulate_annotators(
    truth: Annotated[Path, typer.Option(help="CSV image_id,truth,class_index[,kind].")],
    annotators: Annotated[
        str,
        typer.Option(
            help="Who, by error model: careful, hasty, always-ood, all-knowing; colluding copies the one before."
        ),
    ] = "careful,careful",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    queue: Annotated[str, typer.Option(help="What they answer: first, or audit.")] = "first",
    gold: Annotated[bool, typer.Option("--gold", help="They answer the gold images too.")] = False,
    seed: Annotated[int, typer.Option(help="Of their errors.")] = 0,
) -> None:
    """Let simulated annotators answer a queue, each named as simulated in every log and table.

    \b
    Example: python cli.py simulate-annotators --truth truth.csv --annotators careful,hasty --gold
    """
    from annotation.error_models import simulated_team
    from annotation.simulated import simulate_team
    from manifests.workspace import Workspace

    team = simulated_team([kind.strip() for kind in annotators.split(",")])
    summary = simulate_team(Workspace(workspace), truth, team, seed=seed, with_gold=gold, queue=queue)
    _counted(f"simulate-annotators ({', '.join(summary.annotator_ids)})", summary.n_by_answer)


@app.command("annotators", dry_run=True)
def annotators_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    min_gold: Annotated[
        float, typer.Option(help="Share of gold answered right; who is below is named.", min=0, max=1)
    ] = 0.9,
    set_aside: Annotated[
        list[str] | None, typer.Option(help="Leave this annotator out of agreement and opinions; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap intervals.")] = 0,
) -> None:
    """Report agreement, each annotator's pace and confusion on gold, and a second opinion on each image.

    \b
    Example: python cli.py annotators --min-gold 0.9 --workspace workspace
    """
    from annotation.statistics.report import format_summary, report_annotators
    from manifests.workspace import Workspace

    summary = report_annotators(Workspace(workspace), set_aside=set_aside or (), seed=seed)
    print(format_summary(summary, min_gold))


@app.command()
def plan(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    target: Annotated[
        float,
        typer.Option(help="Largest share of in-distribution images among those agreed to be out.", min=0, max=1),
    ] = 0.01,
    votes_max: Annotated[int, typer.Option(help="Most votes an image.", min=2, max=50)] = 5,
    prevalence: Annotated[
        float | None, typer.Option(help="Share in-distribution of the review set; default: from the answers.")
    ] = None,
    miss_rate: Annotated[
        float | None, typer.Option(help="Instead of measuring: share of in answered out; needs --prevalence.")
    ] = None,
    false_in_rate: Annotated[float, typer.Option(help="With --miss-rate: share of out answered in.")] = 0.0,
    difficult_rate: Annotated[float, typer.Option(help="With --miss-rate: share answered difficult.")] = 0.0,
    hard_share: Annotated[float, typer.Option(help="With --miss-rate: share of in that is hard.")] = 0.0,
    hard_miss_rate: Annotated[float, typer.Option(help="With --hard-share: how often those are missed.")] = 1.0,
    images: Annotated[int | None, typer.Option(help="Images; default: those under review.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help="Per answer; default: measured pace.", min=0)] = None,
    set_aside: Annotated[list[str] | None, typer.Option(help="Plan without this annotator; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
) -> None:
    """Print how many votes a wanted contamination needs, and their cost in decisions, disputes and hours.

    \b
    Example: python cli.py plan --target 0.01 --workspace workspace
    """
    from annotation.statistics.plan import format_plan, make_plan
    from annotation.statistics.team_errors import StatedRates
    from manifests.workspace import Workspace

    rates = None
    if miss_rate is None:
        _refuse_without_effect(
            context, "without --miss-rate", ("false_in_rate", "difficult_rate", "hard_share", "hard_miss_rate")
        )
    elif prevalence is None:
        raise InputError("plan: --miss-rate needs --prevalence")
    else:
        rates = StatedRates(miss_rate, prevalence, false_in_rate, difficult_rate, hard_share, hard_miss_rate)
    errors, rows = make_plan(
        Workspace(workspace), rates=rates, prevalence=prevalence, votes_max=votes_max, n_images=images,
        seconds=seconds, set_aside=set_aside or (), seed=seed,
    )  # fmt: skip
    print(format_plan(errors, rows, target))


@app.command(dry_run=True)
def audit(
    context: typer.Context,
    action: Annotated[
        str, typer.Argument(metavar="plan|report", help="Draw a blind sample, or read its answers.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    manifest: Annotated[
        str | None, typer.Option(help="With plan: <name>-<X.Y.Z>, where there are several.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the audit; default: the manifest's; report: the only one.")
    ] = None,
    bound: Annotated[float, typer.Option(help="With plan: largest share of defects to certify.")] = 0.01,
    confidence: Annotated[float, typer.Option(help="With plan: one-sided.")] = 0.95,
    max_defects: Annotated[
        int | None, typer.Option(help="With plan: defects that still certify; default: 0, or --looks less 1.")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="With plan: stop early where few defects, or too many, are found.")
    ] = False,
    looks: Annotated[int, typer.Option(help="With --sequential: how often to look.", min=2, max=20)] = 3,
) -> None:
    """Plan a blind audit of a frozen set, or report what it found and write the certificate.

    \b
    Example: python cli.py audit plan --manifest openimage_o-1.0.0 --bound 0.01 --workspace workspace
    """
    from annotation.audit.lines import plan_lines, report_lines
    from annotation.audit.plan import plan_audit
    from annotation.audit.report import report_audit
    from manifests.audit_design import Goal
    from manifests.workspace import Workspace

    if action == "report":
        options = ("manifest", "bound", "confidence", "max_defects", "sequential", "looks")
        _refuse_without_effect(context, "with report", options)
        print("\n".join(report_lines(report_audit(Workspace(workspace), name))))
        return
    if action != "plan":
        raise InputError("audit: expected either 'plan' or 'report'")
    if not sequential:
        _refuse_without_effect(context, "without --sequential", ["looks"])
    n_looks = looks if sequential else 1
    goal = Goal(bound, confidence, n_looks - 1 if max_defects is None else max_defects, n_looks)
    print("\n".join(plan_lines(plan_audit(Workspace(workspace), manifest, goal, audit=name))))


@app.command("build-manifest", dry_run=True)
def build_manifest_command(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    name: Annotated[str, typer.Option(help="Name of the set.")] = "openimage_o",
    version: Annotated[
        str, typer.Option(help="X.Y.Z, or auto: the version that follows from what changed.")
    ] = "1.0.0",
    from_list: Annotated[
        list[str] | None, typer.Option(help="A list of ids instead of verdicts: [SPLIT=]FILE or URL; repeatable.")
    ] = None,
    official: Annotated[
        str | None, typer.Option(help="The lists must be those that vim or openood published.")
    ] = None,
    licence: Annotated[
        list[str] | None, typer.Option("--licence", "--license", help="Allow this URL or cc-by-2.0; repeatable.")
    ] = None,
    min_side: Annotated[int | None, typer.Option(help="Least pixels of the shorter side.")] = None,
    max_aspect: Annotated[float | None, typer.Option(help="Largest ratio of the sides.")] = None,
    exclude_quality: Annotated[
        str | None, typer.Option(help="Leave out what `quality` flagged: blur,dark,...")
    ] = None,
    max_per_duplicate_group: Annotated[
        int | None, typer.Option(help="Most images of one group of duplicates.")
    ] = None,
    target: Annotated[int | None, typer.Option(help="Draw so many, balanced over risk and labels.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="NAME=SHARE; the rest is test; default: val=0.1.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and the splits.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Where fetched lists lie; default: the user's cache folder.")
    ] = None,
    allow_private: AllowPrivateOption = False,
    proxy: ProxyOption = None,
) -> None:
    """Freeze the images agreed to be out of distribution, or an official list, as a manifest.

    \b
    Example: python cli.py build-manifest --version auto --licence cc-by-2.0 --workspace workspace
    """
    from manifests.build import build_manifest
    from manifests.draws import DEFAULT_SPLITS
    from manifests.selection import BuildRules
    from manifests.workspace import Workspace

    if from_list:
        _refuse_without_effect(context, "with --from-list, which names the splits", ["split"])
    rules = BuildRules(
        licences=tuple(licence or ()), min_side_px=min_side, max_aspect=max_aspect,
        exclude_quality=tuple(exclude_quality.split(",")) if exclude_quality else (),
        max_per_group=max_per_duplicate_group, target=target, seed=seed,
        splits=dict(DEFAULT_SPLITS) if split is None else _shares(split),
    )  # fmt: skip
    if _plans_lists(from_list or (), cache):
        return
    fetching = {"allow_private": allow_private, "proxy": proxy}
    lists = [_id_list(value, cache, fetching) for value in from_list or ()]
    manifest = build_manifest(Workspace(workspace), name, version, lists=lists, official=official, rules=rules)
    header = manifest.header
    _counted(f"manifest {manifest.folder.name}", header["counts"])
    if header["left_out"]:
        _counted("  left out", header["left_out"])
    for line in (header.get("official") or {}).get("checked", ()):
        print(f"  {line}")
    print(f"  {manifest.folder}, records sha256 {header['content_sha256']}, Merkle root {header['merkle_root']}")
    print(f"  header sha256 {header['header_sha256']}: publish it, and 'verify-manifest --expect' compares it")


def _shares(values: Sequence[str]) -> dict[str, float]:
    try:
        shares = {name: float(share) for name, share in _pairs(values, "--split").items()}
    except ValueError as error:
        raise InputError(f"--split: expected NAME=SHARE such as val=0.1 ({error})") from error
    if len(shares) < len(values):
        raise InputError(f"--split: expected each name once, found {' '.join(values)}")
    return shares


_WEB = ("http://", "https://")


def _split_and_place(value: str) -> tuple[str, str]:
    from manifests.draws import REST_SPLIT

    split, equals, place = value.partition("=")
    # An address may hold a "=" of its own.
    return (REST_SPLIT, value) if not equals or "/" in split else (split, place)


def _plans_lists(values: Sequence[str], cache: Path | None) -> bool:
    """Return whether this is a dry run that ends here, with a plan of the lists to fetch first."""
    if not current_report().is_dry_run:
        return False
    from curation.list_files import list_path
    from manifests.work_plan import Fetch, WorkPlan

    paths = {
        place: list_path(place, cache) for _, place in map(_split_and_place, values) if place.startswith(_WEB)
    }
    missing = {place: path for place, path in paths.items() if not path.exists()}
    if missing:
        current_report().plan = WorkPlan(
            len(missing), len(values) - len(missing), unit="lists",
            writes=[str(path) for path in missing.values()],
            fetches=[Fetch(path.name, place) for place, path in missing.items()],
        )  # fmt: skip
    return bool(missing)


def _id_list(value: str, cache: Path | None, fetching: Mapping[str, Any]) -> tuple[str, Path]:
    """Return a list's split and file; one that is named by its address is fetched."""
    split, place = _split_and_place(value)
    if not place.startswith(_WEB):
        return split, Path(place)
    from curation.list_files import fetch_list

    return split, fetch_list(place, cache, _announce, **fetching)


@app.command("verify-manifest")
def verify_manifest_command(
    manifest: Annotated[Path, typer.Argument(help="Folder of one version, or its name in the workspace.")],
    workspace: Annotated[
        Path | None, typer.Option(help="Also compare its logs, tombstones and pictures with this workspace.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder with the set's pictures, at any depth.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every picture: digest and size; decode what has no digest.")
    ] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every picture too.")] = False,
    expect: Annotated[
        str | None, typer.Option(help="The manifest's header_sha256, as it was published elsewhere.")
    ] = None,
    prove: Annotated[
        str | None, typer.Option(help="Print the Merkle proof that this image id is in the set, as JSON.")
    ] = None,
) -> None:
    """Verify a frozen manifest: its digests, versions, logs and pictures; all problems in one report.

    \b
    Example: python cli.py verify-manifest openimage_o-1.0.0 --workspace workspace --deep
    """
    from manifests.verify import Against, verify_manifest
    from manifests.verify_pictures import Depth
    from manifests.verify_report import report_lines
    from manifests.workspace import Workspace

    space = None if workspace is None else Workspace(workspace)
    folder = manifest
    if space is not None and not manifest.is_dir():
        folder = space.manifests_dir / manifest.name
    if (deep or decode) and images is None and space is None:
        raise InputError("verify-manifest: --deep and --decode need the pictures: give --images or --workspace")
    depth = Depth(deep or decode, decode)
    report = verify_manifest(folder, Against(images, space, depth, _log_problems, expect))
    print("\n".join(report_lines(report)))
    if report.n_problems:
        raise InputError(f"{report.name}: {report.n_problems:,} problems; they are listed above")
    if prove is not None:
        print(_proof(folder, prove))


def _log_problems(space: "Workspace") -> list[str]:
    from annotation.merge import check_logs

    return [check.problem for check in check_logs(space) if check.problem]


def _proof(folder: Path, image_id: str) -> str:
    import json

    from manifests.frozen import read_manifest, record_lines
    from manifests.merkle import inclusion_proof

    manifest = read_manifest(folder)
    records = manifest.records.to_pylist()
    index = next((i for i, record in enumerate(records) if record["image_id"] == image_id), None)
    if index is None:
        raise InputError(f"--prove: image {image_id!r} is not in {folder.name}")
    proof = inclusion_proof(record_lines(records), index)
    root = manifest.header["merkle_root"]
    return json.dumps({"record": records[index], "proof": vars(proof), "merkle_root": root}, ensure_ascii=False)


@app.command("retire", dry_run=True)
def retire_command(
    image_id: Annotated[str, typer.Argument(help="The image.")],
    reason: Annotated[str, typer.Option(help="Why; it is published with every later version.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    manifest: Annotated[
        str | None, typer.Option(help="Version that holds it, such as openimage_o-1.0.0; default: any.")
    ] = None,
) -> None:
    """Withdraw a frozen image: exports and later versions leave it out; frozen versions stay as they are.

    \b
    Example: python cli.py retire 0a1b2c3d4e5f6071 --reason "the author asked for it" --workspace workspace
    """
    from manifests.tombstones import retire
    from manifests.workspace import Workspace

    stone = retire(Workspace(workspace), image_id, reason, manifest=manifest)
    print(f"retired {stone.image_id} of {stone.manifest} at {stone.at}: {stone.reason}")


@app.command("diff", dry_run=True)
def diff_command(
    before: Annotated[Path, typer.Argument(help="Folder of one version, or its name in the workspace.")],
    after: Annotated[Path, typer.Argument(help="The same of the other version.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    out: Annotated[Path | None, typer.Option(help="Write the CSV table here; default: standard output.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with thumbnails here too.")] = None,
) -> None:
    """Show which images entered, left, moved or changed between two versions, and why, as CSV.

    \b
    Example: python cli.py diff openimage_o-1.0.0 openimage_o-2.0.0 --html diff.html --workspace workspace
    """
    from manifests.diff import change_counts, diff_csv, manifest_diff, read_side
    from manifests.diff_page import diff_page
    from manifests.durable import write_text
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    old, new = (read_side(path, space.manifests_dir) for path in (before, after))
    differences = manifest_diff(old, new)
    if html is not None:
        write_text(html, diff_page(old, new, differences, space))
    if out is not None:
        write_text(out, diff_csv(differences))
        _counted("diff", change_counts(differences))
    else:
        print(diff_csv(differences), end="")


@app.command(dry_run=True)
def export(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    export_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="openood (default), pytorch-ood, torch, torchvision, huggingface, webdataset, croissant, "
            "fiftyone or csv; repeatable.",
        ),
    ] = None,
    manifest: Annotated[str | None, typer.Option(help="<name>-<X.Y.Z>, where there are several.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Gets a folder a format; default: <workspace>/exports/<manifest>.")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Pictures too (hard links) where a format can do without.")
    ] = False,
    creator: Annotated[
        list[str] | None, typer.Option(help="croissant: who publishes the set; repeatable.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="croissant: the set's page.")] = None,
    published: Annotated[str | None, typer.Option(help="croissant: since when, YYYY-MM-DD.")] = None,
) -> None:
    """Write a manifest as evaluation loaders read it, with the attribution of every image.

    \b
    Example: python cli.py export --format openood --pictures --workspace workspace
    """
    from manifests.exporters.export import (
        EXPORTS_DIR,
        checked_format,
        checked_out_dir,
        export_manifest,
        exported_set,
    )
    from manifests.exporters.export_plan import plan_export
    from manifests.exporters.exported_set import Publication
    from manifests.frozen import find_manifest
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    formats = list(dict.fromkeys(export_format or ["openood"]))
    for name in formats:
        checked_format(name)
    if "croissant" not in formats:
        _refuse_without_effect(context, "without --format croissant", ("creator", "url", "published"))
    publication = Publication(tuple(creator or ()), url, published)
    frozen = find_manifest(space.manifests_dir, manifest)
    out_dir = checked_out_dir(space, out or space.root / EXPORTS_DIR / frozen.folder.name)
    if current_report().is_dry_run:
        chosen = exported_set(space, frozen, publication=publication)
        plan = plan_export(chosen, formats, out_dir, pictures=pictures)
        for name in formats:
            plan = plan.recorded_as(workspace, f"export.{frozen.folder.name}.{name}")
        current_report().plan = plan
        return
    for name in formats:
        arguments = {"format": name, "manifest": frozen.folder.name, "out": str(out_dir), "pictures": pictures}
        arguments |= vars(publication)
        with space.stage("export", arguments, record_as=f"export.{frozen.folder.name}.{name}") as record:
            chosen = exported_set(space, frozen, publication=publication)
            folder = export_manifest(chosen, name, out_dir, pictures=pictures)
            record.counts = {"images": len(chosen.records), "retired_left_out": chosen.n_retired}
        current_report().written.append(folder)
        print(f"export: {folder}, {len(chosen.records):,} images")


def _check_model_options(given: Mapping[str, object]) -> None:
    """Refuse `extract-features` unless it has --model or --clip, and no option that belongs to the other."""
    if (given["model"] is None) == (given["clip"] is None):
        raise InputError("extract-features: expected either --model (timm) or --clip (open_clip)")
    own, of_other = "--model", ["pretrained", "classes"]
    if given["model"] is None:
        own, of_other = "--clip", ["checkpoint", "n_classes", "model_arg", "preprocess"]
    for option in of_other:
        if given[option]:
            raise InputError(f"--{option.replace('_', '-')}: does not go with {own}")


def _check_template_set(templates: str) -> None:
    from curation.clip import TEMPLATE_SETS

    if templates not in TEMPLATE_SETS:
        raise InputError(f"--templates: expected {' or '.join(TEMPLATE_SETS)}, found {templates!r}")


def _zero_shot_model(
    clip: str, pretrained: str | None, classes: Path | None, templates: str, *, device: str, features_dir: Path
) -> "ZeroShotModel":
    from curation.clip import imagenet_class_names, load_encoder
    from manifests.label_space import read_label_space
    from scoring.zero_shot import zero_shot_model

    _check_template_set(templates)
    names = [known.name for known in read_label_space(classes)] if classes else imagenet_class_names()
    encoder = load_encoder(clip, pretrained, device)
    return zero_shot_model(encoder, names, templates, features_dir=features_dir, announce=_announce)


def _features_name(model_parts: Sequence[str | None], odin: "OdinInput | None") -> str:
    """Return what the folder of a model's features is called: its name, that of its weights, ODIN's setting."""
    parts = [Path(part).stem if Path(part).is_file() else Path(part).name for part in model_parts if part]
    return ".".join([*parts, *([odin.suffix] if odin else [])])


@app.command("extract-features", dry_run=True)
def extract_features_command(
    feature_set: Annotated[str, typer.Option("--set", help="Name of the set to write: train, val, ...")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: Annotated[str | None, typer.Option(help="timm model name.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="With --model: local weights instead of timm's.")] = None,
    n_classes: Annotated[
        int | None, typer.Option(help="With --model: size of the head, where it is not timm's.")
    ] = None,
    model_arg: Annotated[
        list[str] | None, typer.Option(help="With --model: its argument KEY=VALUE, e.g. pad_type=same.")
    ] = None,
    preprocess: Annotated[
        list[str] | None,
        typer.Option(
            help="With --model: vim (as in the ViM repository), and KEY=VALUE of input_size_px, mean, std, "
            "interpolation, crop_fraction, crop_mode; default: the model's own."
        ),
    ] = None,
    clip: Annotated[
        str | None, typer.Option(help="Instead of --model: open_clip model name, or an open_clip config (.json).")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="With --clip: weights tag of that model, or a local checkpoint.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="With --clip: CSV class_index,name[,wnid]; default: ImageNet-1K.")
    ] = None,
    templates: Annotated[
        str, typer.Option(help="With --clip: prompt ensemble, openai (80) or simple (7).")
    ] = "openai",
    images: Annotated[
        Path | None, typer.Option(help="Folder of pictures; default: the workspace's downloads.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV file,class_index for the pictures of --images.")] = None,
    image_ids: Annotated[Path | None, typer.Option(help="Keep only the images of this list.")] = None,
    manifest: Annotated[
        str | None, typer.Option(help="Keep only the images of this manifest of the workspace.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Folder below features/; default: named after model and ODIN setting.")
    ] = None,
    odin_epsilon: Annotated[
        float, typer.Option(help="ODIN's step in pixel values of 0 to 1, e.g. 0.0014; 0: pictures as they are.")
    ] = 0.0,
    odin_temperature: Annotated[
        float | None, typer.Option(help="With --odin-epsilon: its temperature; default: 1000.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures in one call of the model.")] = 64,
    workers: Annotated[int, typer.Option(help="Threads that decode ahead of the model.")] = 2,
    device: DeviceOption = "auto",
) -> None:
    """Write the penultimate features of a set of pictures, and the head, of a timm or open_clip model.

    \b
    Example: python cli.py extract-features --model resnet50.tv_in1k --set val --images imagenet/val
    """
    given = dict(locals())
    arguments = {option: str(value) for option, value in given.items() if value is not None}
    _check_model_options(given)
    from manifests import schema
    from manifests.workspace import Workspace, checked_name
    from scoring.classifier import load_classifier
    from scoring.extract import extract_features, extract_summary, plan_extract
    from scoring.feature_model import FeatureModel
    from scoring.named_preprocessing import preprocessing_changes
    from scoring.odin_input import odin_input
    from scoring.pictures import pictures_to_extract

    space = Workspace(workspace)
    odin = odin_input(odin_epsilon, odin_temperature)
    folder = space.features_dir / checked_name(name or _features_name((model, clip, pretrained), odin), "--name")
    tables = [] if images else [space.path_of(schema.CANDIDATES), space.path_of(schema.DOWNLOADS)]
    files = (checkpoint, clip, pretrained, classes, labels, image_ids)
    inputs = [*tables, *(Path(file) for file in files if file is not None)]
    record_name = f"extract-features.{folder.name}.{checked_name(feature_set, '--set')}"
    find_pictures = partial(
        pictures_to_extract, space, images_dir=images, labels_path=labels, image_ids_path=image_ids,
        manifest_name=manifest,
    )  # fmt: skip
    if current_report().is_dry_run:
        _check_template_set(templates)
        settings = {
            "n_classes": n_classes, "model_arguments": _pairs(model_arg or (), "--model-arg"),
            "preprocess": preprocess or (),
        }  # fmt: skip
        _check_model(str(clip), pretrained, model, checkpoint, settings)
        weights = (str(model or clip), str(checkpoint or pretrained or ""))
        plan = plan_extract(
            find_pictures(n_classes=n_classes), set_name=feature_set, features_dir=folder, batch_size=batch_size,
            weights=weights,
        )  # fmt: skip
        current_report().plan = plan.recorded_as(workspace, record_name)
        return
    with space.stage("extract-features", arguments, inputs, record_as=record_name) as record:
        network: FeatureModel
        if clip is not None:
            network = _zero_shot_model(
                clip, pretrained, classes, templates, device=device, features_dir=folder
            )  # fmt: skip
        else:
            network = load_classifier(
                str(model), checkpoint=checkpoint, n_classes=n_classes, device=device,
                model_arguments=_pairs(model_arg or (), "--model-arg"),
                preprocessing=preprocessing_changes(preprocess or (), str(model)),
            )  # fmt: skip
        source = find_pictures(n_classes=network.head.n_classes)
        result = extract_features(
            source, network, set_name=feature_set, features_dir=folder, odin=odin, batch_size=batch_size,
            n_workers=workers,
        )  # fmt: skip
        record.counts = {"images": result.n_images, "unreadable": result.n_unreadable}
    print(extract_summary(result))


@app.command("train-dml", dry_run=True)
def train_dml_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of train/ and val/ (<part>_labels.csv or a folder a class), or of CIFAR's files."
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="Instead of --data: draw the sample's pictures, with settings for a CPU."),
    ] = False,
    loss: Annotated[
        list[str] | None,
        typer.Option(help="mcf, mnc or cosine (plain cross-entropy); may be given several times."),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Instead of --loss: train with all three, score, and print the claims."),
    ] = False,
    ood: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of an OOD set to write features of; repeatable.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="wrn-DEPTH-WIDTH, tiny or timm:NAME; default: wrn-40-2, of the sample tiny.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(help="Side of the pictures, px; default: 32, of the sample 48.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Default: 200, of the sample 50.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: 128, of the sample 64.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Of the first epoch; a cosine takes it to 0.")] = 0.1,
    center_schedule: Annotated[
        str | None,
        typer.Option(help="Center loss from epochs 60 and 80 (published), or from 30 and 40 % of them (scaled)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Folders are <name>.<loss>; default: the network's name.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order, crops, dropout and the sample's drawings.")] = 0,
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="Convolve in bfloat16; default: on a GPU.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train networks with a cosine classifier for DML+ and write their features: MCF (focal), MNC (center loss).

    \b
    Example: python cli.py train-dml --compare --sample --workspace dml
    """
    arguments = {option: str(value) for option, value in dict(locals()).items() if value is not None}
    if sample == (data is not None):
        raise InputError("train-dml: expected either --data FOLDER or --sample")
    if compare == bool(loss):
        raise InputError("train-dml: expected either --loss mcf|mnc|cosine or --compare")
    folders = {key: Path(value) for key, value in _pairs(ood or (), "--ood").items()}
    if compare and not (folders or sample):
        raise InputError("train-dml --compare: expected at least one --ood NAME=FOLDER to score")
    from manifests.workspace import Workspace, checked_name
    from scoring.dml.compare import comparison_table
    from scoring.dml.data import read_training_data
    from scoring.dml.feature_folders import read_ood_sets
    from scoring.dml.recipe import LOSSES, Recipe
    from scoring.dml.stage import (
        SAMPLE_RECIPE,
        SAMPLE_SIDE_PX,
        Folders,
        compare_losses,
        plan_networks,
        train_networks,
    )

    given: dict[str, Any] = {
        "network": network, "n_epochs": epochs, "batch_size": batch_size, "center_schedule": center_schedule,
        "learning_rate": learning_rate, "seed": seed,
    }  # fmt: skip
    own = {key: value for key, value in given.items() if value is not None}
    recipe = replace(SAMPLE_RECIPE if sample else Recipe("cosine"), **own)
    for one in loss or LOSSES:
        # Refused before pictures are read.
        replace(recipe, loss=one)
    prefix = checked_name(name or recipe.network.replace(":", "-"), "--name")
    space = Workspace(workspace)
    places = Folders(space.root / "training", space.features_dir, space.scores_dir)
    if current_report().is_dry_run:
        read_name = "the sample's pictures, drawn first if need be" if data is None else f"the pictures of {data}"
        losses = LOSSES if compare else tuple(loss or ())
        plan = plan_networks(recipe, losses, places, name=prefix, data_name=read_name)
        current_report().plan = plan.recorded_as(workspace, f"train-dml.{prefix}")
        return
    with space.stage("train-dml", arguments, record_as=f"train-dml.{prefix}") as record:
        record.seed = seed
        if sample:
            from curation.sample.training_world import draw_training_world

            data, out_dir = draw_training_world(space.root / "world", seed=seed)
            folders, side = {"out": out_dir, **folders}, side or SAMPLE_SIDE_PX
        read = read_training_data(data or Path(), side_px=side)
        ood_sets = read_ood_sets(folders)
        record.counts = {"train": len(read.train.image_ids), "val": len(read.val.image_ids)}
        if compare:
            comparison = compare_losses(
                read, recipe, ood_sets, places, name=prefix, device=device, amp=amp, announce=_announce
            )
            print(comparison_table(comparison))
            return
        results = train_networks(
            read, recipe, loss or (), ood_sets, places, name=prefix, device=device, amp=amp, announce=_announce
        )
    for one, result in results.items():
        last = result.history[-1]
        print(
            f"train-dml: {one}, {last.epoch} epochs ({result.n_done_before} done before), right "
            f"{100 * last.val_accuracy:.2f} % of val; {places.features / f'{prefix}.{one}'}, {result.paths[-1]}"
        )


@app.command(dry_run=True)
def score(
    ood: Annotated[list[str], typer.Option(help="An OOD set of the folder; may be given several times.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    features: Annotated[
        Path | None, typer.Option(help="Folder of sets and head; default: the workspace's only one.")
    ] = None,
    second_features: Annotated[
        Path | None, typer.Option(help="Folder of the same sets by a second model, for dml_plus: MNC beside MCF.")
    ] = None,
    train: Annotated[str, typer.Option(help="In-distribution set that methods are fitted on.")] = "train",
    val: Annotated[str, typer.Option(help="In-distribution set that is scored.")] = "val",
    fit_val: Annotated[
        str | None, typer.Option(help="In-distribution set that mode openood fits some methods on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: <workspace>/scores/<model>.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A method; may be given several times; default: all that can be fitted."),
    ] = None,
    mode: Annotated[str, typer.Option(help="Whose settings: authors or openood.")] = "authors",
    option: Annotated[list[str] | None, typer.Option(help="METHOD.OPTION=VALUE, e.g. react.quantile=0.9.")] = None,
    dim_rule: Annotated[
        str | None, typer.Option(help="D of the principal space: repo (the default) or paper.")
    ] = None,
    dim: Annotated[int | None, typer.Option(help="D itself, instead of a rule.")] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV class_index,group, for max_group and vim_group.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Draws of the 95 % intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    baseline: Annotated[
        str | None, typer.Option(help="Method to compare the others with, image by image.")
    ] = None,
    contamination: Annotated[
        list[str] | None,
        typer.Option(
            help="[SET=]RATE[,LOW,HIGH] or K/N of an OOD set that is really ID, or its certificate.json."
        ),
    ] = None,
    known_in: Annotated[
        Path | None, typer.Option(help="List of image ids known to be ID: figures with and without them.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Score a classifier on OOD sets with the ViM suite: AUROC, AUPR and both FPR95, with intervals.

    \b
    Example: python cli.py score --features workspace/features/resnet50.tv_in1k --ood openimage_o --out scores
    """
    given = dict(locals())
    arguments = {
        name: [str(one) for one in value] if isinstance(value, list) else str(value)
        for name, value in given.items()
        if value is not None
    }
    from manifests.image_ids import read_image_ids
    from manifests.workspace import Workspace
    from scoring.contamination import Contamination, parse_contamination
    from scoring.groups import read_groups
    from scoring.heads import read_head
    from scoring.methods.fitting import options_from_text
    from scoring.score import score as score_sets
    from scoring.score_plan import plan_score
    from scoring.score_settings import FigureSettings, FitSettings, SetNames
    from scoring.tables import results_table

    folder = Workspace(workspace).find_features(features)
    if second_features is not None:
        second_features = Workspace(workspace).find_features(second_features)
    # Results of two models are of both.
    results_name = ".".join(one.name for one in (folder, second_features) if one is not None)
    out_dir = out or Workspace(workspace).scores_dir / results_name
    options = options_from_text(list(_pairs(option or (), "--option").items()))
    by_default = ("residual", "vim", *(["vim_group"] if groups else []))
    on_space = by_default if method is None else [one for one in ("residual", "vim", "vim_group") if one in method]
    for name, value in (("dim_rule", dim_rule), ("dim", dim)):
        if value is not None and not on_space:
            raise InputError(f"--{name.replace('_', '-')}: none of residual, vim and vim_group is asked for")
        for space_method in on_space if value is not None else ():
            options.setdefault(space_method, {}).setdefault(name, value)
    rates: dict[str, Contamination] = {}
    # Those of one set after those of all, whatever their order on the command line.
    for value in sorted(contamination or (), key=lambda value: "=" in value):
        name, equals, text = value.rpartition("=")
        rates |= {one: parse_contamination(text) for one in ([name] if equals else ood)}
    fit = FitSettings(mode, options, read_groups(groups, read_head(folder).n_classes) if groups else None)
    figures = FigureSettings(bootstrap, seed, baseline, list(read_image_ids(known_in)) if known_in else [], rates)
    # Away from a workspace, the folder of results keeps its own record.
    recorder = Workspace(workspace if out is None else out)
    names = SetNames(tuple(ood), val, train or None, fit_val or None)
    if current_report().is_dry_run:
        plan = plan_score(folder, names, out_dir, methods=method)
        current_report().plan = plan.recorded_as(recorder.root, f"score.{results_name}")
        return
    sets = [*names.of_id, *names.ood]
    inputs = [folder / "head.safetensors", *(folder / f"{name}.parquet" for name in sets)]
    if second_features is not None:
        inputs += [second_features / path.name for path in inputs]
    inputs += [path for path in (groups, known_in) if path is not None]
    with recorder.stage("score", arguments, inputs, record_as=f"score.{results_name}") as record:
        result = score_sets(
            folder, names, out_dir, methods=method, fit=fit, figures=figures, device=device,
            second_dir=second_features,
        )  # fmt: skip
        record.counts = dict(result.n_images)
    print(results_table(result))
    print("score: " + ", ".join(map(str, result.paths)))


@app.command(dry_run=True, is_long=True)
def plot(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    scores: Annotated[
        Path | None, typer.Option(help="Folder of results; default: the workspace's only one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: plots/ in the folder of results.")] = None,
    val: Annotated[str, typer.Option(help="The in-distribution set.")] = "val",
    method: Annotated[
        list[str] | None, typer.Option(help="A method; may be given several times; default: all.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="OOD set on the horizontal axis of the comparison.")] = None,
    file_format: Annotated[str, typer.Option("--format", help="png, svg or pdf.")] = "png",
) -> None:
    """Plot scores: a histogram a method, ROC curves a set, and the AUROC of one set against another.

    \b
    Example: python cli.py plot --scores workspace/scores/resnet50.tv_in1k
    """
    from manifests.workspace import Workspace
    from scoring.plots.plot import plot_results

    folder = Workspace(workspace).find_scores(scores)
    result = plot_results(
        folder, out or folder / "plots", val=val, methods=method, against=against, file_format=file_format
    )
    print(f"plot: {len(result.paths)} pictures in {out or folder / 'plots'}")
    for reason in result.left_out:
        print(f"  left out: {reason}")


def _bench_risk(workspace: Path, data: Path | None, device: str, seed: int) -> None:
    from curation.bench.pasted import make_workspace
    from curation.bench.risk import measure_risk, risk_table
    from curation.embed import EmbedRules, ModelChoice, embed_with
    from curation.store_run import embed_summary
    from manifests.workspace import Workspace

    if data is None:
        raise InputError("bench risk: expected --data FOLDER")
    space = Workspace(workspace)
    truth_path = make_workspace(data, space, seed)
    encoder = _real_classifier(data, device)
    choice = ModelChoice(encoder.name, "", lambda: encoder)
    summary = embed_with(space, choice, EmbedRules(n_workers=os.cpu_count() or 1), announce=_announce)
    _announce(embed_summary(summary))
    _, sources = _class_sources(space, [summary.digest], None, "openai", None, None, device)
    print(risk_table(measure_risk(space, sources, truth_path, seed)))


def _bench_duplicates(workspace: Path, data: Path | None, device: str, images: int | None, seed: int) -> None:
    from curation.bench.duplicates import bench_duplicates, duplicates_table
    from curation.duplicates.rules import DuplicateRules
    from curation.embed import EmbedRules, ModelChoice, embed_with

    if data is None:
        raise InputError("bench duplicates: expected --data FOLDER")

    def embed_whole(space: "Workspace") -> None:
        encoder = _real_classifier(data, device)
        rules = EmbedRules(0, n_workers=os.cpu_count() or 1)
        embed_with(space, ModelChoice(encoder.name, "", lambda: encoder), rules, announce=_announce)

    has_classifier = (data / "classifier").is_dir()
    results = bench_duplicates(
        data, workspace, DuplicateRules(), embed=embed_whole if has_classifier else None, most_pictures=images,
        seed=seed,
    )  # fmt: skip
    print(duplicates_table(results))


# What each bench takes besides --workspace.
_BENCH_FLAGS: Mapping[str, frozenset[str]] = {
    "scoring": frozenset({"size", "features", "method", "peers", "seed", "device"}),
    "download": frozenset({"images", "workers", "quick", "peers"}),
    "metadata": frozenset({"rows", "seed"}),
    "annotate": frozenset({"rows", "quick", "seed"}),
    "screen": frozenset({"rows", "images", "quick", "peers", "seed", "device"}),
    "views": frozenset({"data", "images", "seed", "device"}),
    "risk": frozenset({"data", "seed", "device"}),
    "localize": frozenset({"data", "images", "seed", "device"}),
    "duplicates": frozenset({"data", "images", "seed", "device"}),
    "manifests": frozenset({"images"}),
}


@app.command()
def bench(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            help="scoring, download, metadata, screen, views, risk, localize, duplicates, manifests, annotate."
        ),
    ],
    workspace: WorkspaceOption = Path("bench"),
    size: Annotated[str, typer.Option(help="Sets to make: tiny, small, vit or bit.")] = "vit",
    features: Annotated[Path | None, typer.Option(help="Folder of sets and head instead.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method to time alone; may be given several times; default: all.")
    ] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Time the rivals too.")] = True,
    seed: Annotated[int, typer.Option(help="Of the sets that are made.")] = 0,
    device: DeviceOption = "auto",
    images: Annotated[
        int | None,
        typer.Option(
            help="download: pictures of a run, default 2000; screen: photographs to hash, default 400; "
            "views: to paste, default 100; localize: of each kind, default 72 and 20; "
            "duplicates: to copy, default all; "
            "manifests: of the smaller set, default 17632."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="download: pictures fetched at a time.")] = 16,
    quick: Annotated[
        bool, typer.Option("--quick", help="download: one short round; screen: a tenth; annotate: 1000.")
    ] = False,
    rows: Annotated[
        int | None,
        typer.Option(
            help="metadata: rows of the table, default 200000; screen: vectors, default 125436; "
            "annotate: candidates, default 1000 and 20000."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="views, risk, localize, duplicates: folder of real pictures, as demo --real takes it."),
    ] = None,
) -> None:
    """Time a stage beside the machine's own limits and beside its rivals.

    \b
    Example: python cli.py bench scoring --size vit --workspace bench
    """
    taken = _BENCH_FLAGS.get(what, context.params.keys()) | {"what", "workspace"}
    _refuse_without_effect(context, f"on bench {what}", [name for name in context.params if name not in taken])
    if what == "download":
        from curation.bench.report import bench_table as download_table
        from curation.bench.run import bench_download

        n_images = 2000 if images is None else images
        print(
            download_table(
                bench_download(workdir=workspace, n_images=n_images, n_workers=workers, quick=quick, peers=peers)
            )
        )
        return
    if what == "views":
        from curation.bench.views import bench_views, views_table

        if data is None:
            raise InputError("bench views: expected --data FOLDER")
        encoder = _real_classifier(data, device)
        n_pictures = 100 if images is None else images
        print(views_table(bench_views(encoder, encoder.head_rows(), data, n_pictures=n_pictures, seed=seed)))
        return
    if what == "risk":
        _bench_risk(workspace, data, device, seed)
        return
    if what == "localize":
        from curation.bench.localize import bench_localize, localize_table

        print(localize_table(bench_localize(data, n_pictures=images, seed=seed, device=device)))
        return
    if what == "duplicates":
        _bench_duplicates(workspace, data, device, images, seed)
        return
    if what == "annotate":
        from annotation.bench.figures import annotate_table
        from annotation.bench.run import DEFAULT_SIZES, QUICK_SIZES, bench_annotate

        by_default = QUICK_SIZES if quick else DEFAULT_SIZES
        all_rows = by_default if rows is None else (rows,)
        print(annotate_table(bench_annotate(workspace, all_rows, quick=quick, seed=seed, announce=_announce)))
        return
    if what == "manifests":
        from manifests.bench import OPENIMAGE_O, bench_manifests, timings_table
        from manifests.exporters.bench import EXPORT_STEPS

        print(
            timings_table(
                bench_manifests(workspace, EXPORT_STEPS, n_images=OPENIMAGE_O if images is None else images)
            )
        )
        return
    if what == "metadata":
        from curation.metadata.bench import bench_metadata, bench_metadata_table

        print(bench_metadata_table(bench_metadata(workspace, 200_000 if rows is None else rows, seed=seed)))
        return
    if what == "screen":
        from curation.bench.screen.report import screen_table
        from curation.bench.screen.run import bench_screen

        sizes = {name: size for name, size in (("n_rows", rows), ("n_pictures", images)) if size is not None}
        print(
            screen_table(
                bench_screen(workdir=workspace, quick=quick, peers=peers, seed=seed, device=device, **sizes)
            )
        )
        return
    from scoring.bench.report import bench_table
    from scoring.bench.run import bench_scoring
    from scoring.methods.table import METHOD_NAMES

    if what != "scoring":
        raise InputError(
            "bench: expected scoring, download, metadata, screen, views, risk, localize, duplicates, manifests or "
            "annotate, found "
            f"{what!r}"
        )
    result = bench_scoring(
        workdir=workspace, size=size, features_dir=features, device=device, methods=method or METHOD_NAMES,
        peers=peers, seed=seed,
    )  # fmt: skip
    print(bench_table(result))


@app.command(dry_run=True)
def report(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    out: Annotated[Path | None, typer.Option(help="The page; default: report.html in the workspace.")] = None,
    manifest: Annotated[
        str | None, typer.Option(help="<name>-<X.Y.Z>; default: the newest version of each set.")
    ] = None,
    no_gallery: Annotated[
        bool, typer.Option("--no-gallery", help="Leave long galleries out: the page is the only file.")
    ] = False,
) -> None:
    """Write one page that shows the whole workspace: funnel, screening, answers, manifest, scores, provenance.

    \b
    Example: python cli.py report --workspace workspace
    """
    from manifests.frozen import find_manifest
    from manifests.report.gathered import report_lead
    from manifests.report.render import check_page_path, plan_report, report_lines, write_report
    from manifests.workspace import Workspace

    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: there is no such folder; 'candidates' makes one")
    space = Workspace(workspace)
    if manifest is not None:
        find_manifest(space.manifests_dir, manifest)
    path = out or workspace / "report.html"
    check_page_path(path)
    sections = _report_sections(space, manifest)
    if current_report().is_dry_run:
        current_report().plan = plan_report(path, sections, has_long_galleries=not no_gallery)
        return
    title = f"Report of {workspace.resolve().name}"
    written = write_report(path, title, sections, lead=report_lead(space), has_long_galleries=not no_gallery)
    current_report().written += [] if written.pictures_dir is None else [written.pictures_dir]
    current_report().counts |= {
        "sections": written.n_sections, "sections_missing": written.n_missing, "cards": written.n_cards,
        "thumbnails_made": written.pictures.made, "thumbnails_reused": written.pictures.reused,
        "pictures_without": written.pictures.without,
    }  # fmt: skip
    for line in report_lines(written):
        print(line)
    if written.problems:
        raise InputError("; ".join(written.problems))


def _report_sections(space: "Workspace", manifest: str | None) -> "list[Section]":
    import annotation.report
    import curation.report
    import scoring.report
    from manifests.report.frozen_set import manifest_sections
    from manifests.report.gathered import gathered
    from manifests.report.overview import overview_sections
    from manifests.report.provenance import provenance_sections

    return gathered(
        space,
        [
            ("overview", "From candidates to a manifest", overview_sections),
            ("curation", "Curation", curation.report.sections),
            ("annotation", "Annotation", annotation.report.sections),
            ("manifest", "Manifest", partial(manifest_sections, name=manifest)),
            ("scores", "Scores", scoring.report.sections),
            ("provenance", "Provenance", provenance_sections),
        ],
    )


@app.command("train-localizer", dry_run=True)
def train_localizer_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the localizer; what lies there goes on; <workspace>/localizer.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Root of RefCOCO's layout: anns/DATASET/, images/train2014/, masks/DATASET/."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="refcoco, refcoco+, refcocog_u or refcocog_g.")] = "refcoco",
    test_split: Annotated[
        list[str] | None, typer.Option(help="With --data: judge by this split at the end; repeatable.")
    ] = None,
    scenes: Annotated[int | None, typer.Option(help="Draw so many scenes to learn from instead.", min=1)] = None,
    convert: Annotated[
        Path | None, typer.Option(help="One of the ETRIS authors' checkpoints: convert it instead.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="open_clip model; with --scenes by default the sample's tiny CLIP.")
    ] = None,
    pretrained: Annotated[str | None, typer.Option(help="Weights tag or a local checkpoint.")] = None,
    interactor: Annotated[
        str | None, typer.Option(help="paper (the default), or published: as the authors' code on ViT.")
    ] = None,
    input_px: Annotated[int | None, typer.Option(help="Side of the input; the paper's is 416.")] = None,
    words: Annotated[int | None, typer.Option(help="Tokens of a phrase; 17, and 22 on refcocog.")] = None,
    epochs: Annotated[int | None, typer.Option(help="The paper's are 50.")] = None,
    milestone: Annotated[int | None, typer.Option(help="Epochs before the rate falls to a tenth; 35.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="The paper's is 32.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's; the paper's is 0.0001.")] = None,
    bridger_factor: Annotated[float | None, typer.Option(help="Times the rate, for the Bridger; 1.")] = None,
    readers: Annotated[int, typer.Option(help="With --data: threads that read pictures.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of weights, order, phrases and scenes.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Train a localizer on a frozen CLIP, after ETRIS: where in a picture is what a phrase names.

    \b
    Example: python cli.py train-localizer --scenes 3000 --workspace workspace
    """
    arguments = {option: str(value) for option, value in dict(locals()).items() if value is not None}
    from curation.localize.authors import convert_checkpoint
    from curation.localize.training_run import (
        LayoutChoice,
        ModelOfTowers,
        plan_training,
        train_on_layout,
        train_on_scenes,
    )
    from manifests.workspace import Workspace

    given = {
        "interactor": interactor, "input_px": input_px, "n_words": words, "n_epochs": epochs,
        "milestone": milestone, "batch_size": batch_size, "learning_rate": learning_rate,
        "bridger_factor": bridger_factor, "seed": seed,
    }  # fmt: skip
    if sum(way is not None for way in (data, scenes, convert)) != 1:
        raise InputError("train-localizer: expected one of --data, --scenes and --convert")
    if convert is not None and model is None:
        raise InputError("train-localizer: --convert needs --model, such as RN101-quickgelu")
    if data is not None and (model is None or pretrained is None):
        raise InputError("train-localizer: --data needs --model and --pretrained")
    towers = ModelOfTowers(model, pretrained, device)
    space = Workspace(workspace)
    folder = out or space.root / "localizer"
    if convert is None and current_report().is_dry_run:
        plan = plan_training(towers, given, n_scenes=scenes, root=data, out_dir=folder)
        current_report().plan = plan.recorded_as(workspace, "train-localizer")
        return
    with space.stage("train-localizer", arguments) as record:
        record.seed = seed
        if convert is not None:
            lines = [str(path) for path in convert_checkpoint(convert, str(model), folder, n_words=words or 17)]
        elif data is not None:
            layout = LayoutChoice(data, dataset, test_split or (), readers)
            lines = train_on_layout(towers, layout, given, out_dir=folder, announce=_announce)
        else:
            lines = train_on_scenes(towers, scenes or 0, given, out_dir=folder, announce=_announce)
        record.details = {"figures": lines}
    print(*lines, sep="\n")


@app.command()
def status(workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    """Show the funnel: how many images stand at which stage, and why the others left.

    \b
    Example: python cli.py status --workspace workspace
    """
    from dataclasses import asdict

    from annotation.progress import progress_lines
    from manifests.control import control_estimate, format_control
    from manifests.funnel import format_funnel, funnel
    from manifests.next_step import next_step
    from manifests.underway import RUNNING, underway
    from manifests.workspace import Workspace

    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: there is no such folder; 'candidates' makes one")
    space = Workspace(workspace)
    steps, work = funnel(space), underway(space)
    print(format_funnel(steps))
    for line in (*work, *progress_lines(space)):
        print(line)
    estimate = control_estimate(space)
    if estimate is not None:
        print(format_control(estimate))
    report = current_report()
    report.data = {"funnel": [asdict(step) for step in steps], "underway": [asdict(one) for one in work]}
    # What runs now comes first: nothing follows it yet.
    report.next_step = None if any(one.state == RUNNING for one in work) else next_step(space)


@app.command()
def demo(
    workspace: WorkspaceOption = Path("demo"),
    real: Annotated[
        Path | None, typer.Option(help="Folder of real pictures (pool/, imagenet_val/, classifier/, lists/).")
    ] = None,
) -> None:
    """Run the main job on the embedded sample, or on a folder of real pictures, command by command.

    \b
    Example: python cli.py demo --workspace demo
    """
    from curation.sample.demo import run_embedded_demo, run_real_demo

    if real is not None:
        code = run_real_demo(workspace, real, run)
    else:
        code = run_embedded_demo(workspace, TINY_CLASSIFIER, run)
    raise typer.Exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 done, 1 our error, 2 usage, 130 or 143 interrupted."""
    return run_app(app, sys.argv[1:] if arguments is None else arguments, "openimage-o")


def main() -> NoReturn:
    """Entry point of ``python cli.py`` and of the installed script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
