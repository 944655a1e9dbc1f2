"""The command line: one command a stage, each in the `commands` of its package, brought together here.

What a command needs of a package that its own may not import is handed to it here. Heavy libraries are imported
inside the commands, so that ``--help`` answers at once.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    # Until a command runs, Ctrl-C ends the process at once and without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import annotation.commands.bench
import annotation.commands.offered
import curation.commands.bench
import curation.commands.offered
import manifests.commands.bench
import scoring.commands.bench
import scoring.commands.offered
from annotation.commands import annotators, answers, audit, serving
from curation.commands import demo, download, duplicates, embed, localizing, open_images, screening
from curation.commands.class_sources import Classifiers
from manifests.commands import building, export, frozen_sets, overview
from manifests.commands.bench import BENCH_OPTIONS, Bench, BenchOptions
from manifests.commands.building import ListFiles
from manifests.commands.options import DeviceOption, WorkspaceOption, refuse_without_effect
from manifests.completion import features_names, words
from manifests.errors import InputError
from manifests.run_report import NextStep, current_report
from manifests.stage_commands import StageApp, run_app
from scoring.commands import extract_features, score, train_dml
from scoring.commands.extract_features import ClipModels
from scoring.commands.score import method_names

if TYPE_CHECKING:
    from manifests.report.parts import Section
    from manifests.workspace import Workspace

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


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 done, 1 our error, 2 usage, 130 or 143 interrupted."""
    return run_app(app, sys.argv[1:] if arguments is None else arguments, "openimage-o")


def main() -> NoReturn:
    """Entry point of ``python cli.py`` and of the installed script."""
    sys.exit(run())


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


CLASSIFIERS = Classifiers(
    check=scoring.commands.offered.check_named_classifier, load=scoring.commands.offered.load_named_classifier
)
CLIP_MODELS = ClipModels(
    check=curation.commands.offered.check_clip,
    check_templates=curation.commands.offered.check_templates,
    load=curation.commands.offered.load_clip,
    class_names=curation.commands.offered.imagenet_names,
)
LIST_FILES = ListFiles(path_of=curation.commands.offered.list_path, fetch=curation.commands.offered.fetch_list)

BENCHES: Mapping[str, Bench] = {
    **scoring.commands.bench.benches(),
    **curation.commands.bench.benches(CLASSIFIERS),
    **manifests.commands.bench.benches(),
    **annotation.commands.bench.benches(),
}


def bench(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help=", ".join(BENCHES) + ".", autocompletion=words(*BENCHES))],
    workspace: WorkspaceOption = Path("bench"),
    size: Annotated[
        str,
        typer.Option(
            help="Sets to make: tiny, small, vit or bit.", autocompletion=words("tiny", "small", "vit", "bit")
        ),
    ] = "vit",
    features: Annotated[
        Path | None, typer.Option(help="Folder of sets and head instead.", autocompletion=features_names)
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method to time alone; may be given several times; default: all.", autocompletion=method_names
        ),
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
    masks: Annotated[
        bool, typer.Option("--masks", help="annotate: with evidence masks too, closed and opened.")
    ] = False,
) -> None:
    """Time a stage beside the machine's own limits and beside its rivals.

    \b
    Example: python cli.py bench scoring --size vit --workspace bench
    """
    if what not in BENCHES:
        *others, last = BENCHES
        raise InputError(f"bench: expected {', '.join(others)} or {last}, found {what!r}")
    chosen = BENCHES[what]
    taken = chosen.takes | {"workspace"}
    refuse_without_effect(context, f"on bench {what}", [name for name in BENCH_OPTIONS if name not in taken])
    found = chosen.measure(
        BenchOptions(
            workspace=workspace, size=size, features=features, method=method, peers=peers, seed=seed,
            device=device, images=images, workers=workers, quick=quick, rows=rows, data=data, masks=masks,
        )
    )  # fmt: skip
    current_report().data = found.data
    print(found.table)


app = StageApp(
    next_step=_next_step,
    help="Curate, annotate, freeze and score an out-of-distribution benchmark for ImageNet-1K out of Open Images.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# In the order of a job, which is that of --help.
app.command(dry_run=True)(open_images.candidates)
app.command(dry_run=True)(open_images.labels)
app.command(dry_run=True)(download.download)
app.command(dry_run=True)(partial(embed.embed, CLASSIFIERS))
app.command(dry_run=True)(screening.quality)
app.command(dry_run=True, is_long=True)(partial(screening.calibrate, CLASSIFIERS))
app.command(dry_run=True, is_long=True)(duplicates.duplicates)
app.command(dry_run=True, is_long=True)(duplicates.leaks)
app.command(dry_run=True, is_long=True)(partial(screening.screen, CLASSIFIERS))
app.command(dry_run=True)(localizing.localize)
app.command()(serving.annotate)
app.command()(serving.browse)
app.command(dry_run=True)(answers.consensus)
app.command(dry_run=True)(answers.gold)
app.command(dry_run=True)(answers.inspect)
app.command(dry_run=True)(answers.decisions)
app.command(dry_run=True)(annotators.simulate_annotators)
app.command(dry_run=True)(annotators.annotators)
app.command()(annotators.plan)
app.command(dry_run=True)(audit.audit)
app.command(dry_run=True)(partial(building.build_manifest, LIST_FILES))
app.command()(partial(frozen_sets.verify_manifest, annotation.commands.offered.log_problems))
app.command(dry_run=True)(frozen_sets.retire)
app.command(dry_run=True)(frozen_sets.diff)
app.command(dry_run=True)(export.export)
app.command(dry_run=True)(partial(extract_features.extract_features, CLIP_MODELS))
app.command(dry_run=True)(partial(train_dml.train_dml, curation.commands.offered.draw_world))
app.command(dry_run=True)(score.score)
app.command(dry_run=True)(score.plot)
app.command()(bench)
app.command(dry_run=True)(partial(overview.report, _report_sections))
app.command(dry_run=True)(localizing.train_localizer)
app.command()(partial(overview.status, annotation.commands.offered.progress_lines))
app.command()(partial(demo.demo, TINY_CLASSIFIER, run))


if __name__ == "__main__":
    main()
