"""Benchmarks of this package, as `bench` runs them."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from curation.commands.class_sources import ClassChoice, Classifiers, class_sources
from manifests.commands.bench import Bench, BenchFigures, BenchOptions
from manifests.commands.summary import announce
from manifests.errors import InputError

if TYPE_CHECKING:
    from curation.encoder import HeadedEncoder
    from manifests.workspace import Workspace


def benches(classifiers: Classifiers) -> dict[str, Bench]:
    """Return the benchmarks of this package by name."""
    return {
        "download": Bench(frozenset({"images", "workers", "quick", "peers"}), _download),
        "metadata": Bench(frozenset({"rows", "seed"}), _metadata),
        "screen": Bench(frozenset({"rows", "images", "quick", "peers", "seed", "device"}), _screen),
        "views": Bench(frozenset({"data", "images", "seed", "device"}), partial(_views, classifiers)),
        "risk": Bench(frozenset({"data", "seed", "device"}), partial(_risk, classifiers)),
        "localize": Bench(frozenset({"data", "images", "seed", "device"}), _localize),
        "duplicates": Bench(frozenset({"data", "images", "seed", "device"}), partial(_duplicates, classifiers)),
    }


def _download(given: BenchOptions) -> BenchFigures:
    from curation.bench.report import bench_table
    from curation.bench.run import bench_download

    n_images = 2000 if given.images is None else given.images
    result = bench_download(
        workdir=given.workspace, n_images=n_images, n_workers=given.workers, quick=given.quick, peers=given.peers
    )
    return BenchFigures(bench_table(result), result.as_json())


def _metadata(given: BenchOptions) -> BenchFigures:
    from curation.metadata.bench import bench_metadata, bench_metadata_table

    n_rows = 200_000 if given.rows is None else given.rows
    result = bench_metadata(given.workspace, n_rows, seed=given.seed)
    return BenchFigures(bench_metadata_table(result), result.as_json())


def _screen(given: BenchOptions) -> BenchFigures:
    from curation.bench.screen.report import screen_table
    from curation.bench.screen.run import bench_screen

    wanted = (("n_rows", given.rows), ("n_pictures", given.images))
    sizes = {name: size for name, size in wanted if size is not None}
    result = bench_screen(
        workdir=given.workspace, quick=given.quick, peers=given.peers, seed=given.seed, device=given.device,
        **sizes,
    )  # fmt: skip
    return BenchFigures(screen_table(result), result.as_json())


def _localize(given: BenchOptions) -> BenchFigures:
    from curation.bench.localize import bench_localize, localize_table

    figures = bench_localize(given.data, n_pictures=given.images, seed=given.seed, device=given.device)
    return BenchFigures(localize_table(figures), {"figures": [one.as_json() for one in figures]})


def _views(classifiers: Classifiers, given: BenchOptions) -> BenchFigures:
    from curation.bench.views import bench_views, views_table

    data = _given(given.data, "bench views: expected --data FOLDER")
    encoder = _real_classifier(classifiers, data, given.device)
    n_pictures = 100 if given.images is None else given.images
    result = bench_views(encoder, encoder.head_rows(), data, n_pictures=n_pictures, seed=given.seed)
    return BenchFigures(views_table(result), result.as_json())


def _risk(classifiers: Classifiers, given: BenchOptions) -> BenchFigures:
    from curation.bench.pasted import make_workspace
    from curation.bench.risk import measure_risk, risk_table
    from curation.embed import EmbedRules, ModelChoice, embed_with
    from curation.store_run import embed_summary
    from manifests.workspace import Workspace

    data = _given(given.data, "bench risk: expected --data FOLDER")
    space = Workspace(given.workspace)
    truth_path = make_workspace(data, space, given.seed)
    encoder = _real_classifier(classifiers, data, given.device)
    choice = ModelChoice(encoder.name, "", lambda: encoder)
    summary = embed_with(space, choice, EmbedRules(n_workers=os.cpu_count() or 1), announce=announce)
    announce(embed_summary(summary))
    _, sources = class_sources(classifiers, space, ClassChoice([summary.digest]), given.device)
    figures = measure_risk(space, sources, truth_path, given.seed)
    return BenchFigures(risk_table(figures), {"figures": [one.as_json() for one in figures]})


def _duplicates(classifiers: Classifiers, given: BenchOptions) -> BenchFigures:
    from curation.bench.duplicates import bench_duplicates, duplicates_table
    from curation.duplicates.rules import DuplicateRules
    from curation.embed import EmbedRules, ModelChoice, embed_with

    data = _given(given.data, "bench duplicates: expected --data FOLDER")

    def embed_whole(space: "Workspace") -> None:
        encoder = _real_classifier(classifiers, data, given.device)
        rules = EmbedRules(0, n_workers=os.cpu_count() or 1)
        embed_with(space, ModelChoice(encoder.name, "", lambda: encoder), rules, announce=announce)

    has_classifier = (data / "classifier").is_dir()
    results = bench_duplicates(
        data, given.workspace, DuplicateRules(), embed=embed_whole if has_classifier else None,
        most_pictures=given.images, seed=given.seed,
    )  # fmt: skip
    searches = [{"by": way, **one.as_json()} for way, one in results.items()]
    return BenchFigures(duplicates_table(results), {"searches": searches})


def _given(folder: Path | None, otherwise: str) -> Path:
    if folder is None:
        raise InputError(otherwise)
    return folder


def _real_classifier(classifiers: Classifiers, data_dir: Path, device: str) -> "HeadedEncoder":
    """Load the classifier of a folder of real pictures, as `demo --real` does."""
    settings = {
        "n_classes": 1000,
        "model_arguments": {"pad_type": "same"},
        "preprocess": ["mean=0.5,0.5,0.5", "std=0.5,0.5,0.5", "interpolation=bilinear"],
    }
    checkpoint = data_dir / "classifier" / "mobilenetv2_100.safetensors"
    return classifiers.load("mobilenetv2_100", checkpoint, settings, device)
