"""The command line: one command a stage. Each parses, calls one function, and prints a short summary.

Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from manifests.errors import InputError, OpenImageOError

EXIT_OUR_ERROR = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    help="Curate, annotate, freeze and score an out-of-distribution benchmark for ImageNet-1K out of Open Images.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

WorkspaceOption = Annotated[Path, typer.Option(help="Folder of tables, pictures and logs.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
DEFAULT_WORKSPACE = Path("workspace")


def _announce(line: str) -> None:
    print(line, file=sys.stderr)


def _counted(stage: str, counts: dict[str, int]) -> None:
    print(f"{stage}: " + ", ".join(f"{word} {n:,}" for word, n in sorted(counts.items())))


def _pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """Return ``key=value`` arguments as a dict."""
    pairs = dict(value.partition("=")[::2] for value in values)
    if any("=" not in value for value in values):
        raise InputError(f"{flag}: expected KEY=VALUE, found {next(v for v in values if '=' not in v)!r}")
    return pairs


@app.command()
def candidates(
    metadata: Annotated[
        Path, typer.Option(help="images.csv, its .tar.gz, *-with-rotation.csv, or a list of ids (.txt).")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    image_ids: Annotated[Path | None, typer.Option(help="Keep only the images of this list.")] = None,
    subset: Annotated[str | None, typer.Option(help="Keep only train, validation or test.")] = None,
    limit: Annotated[int | None, typer.Option(help="Keep the first N images.", min=1)] = None,
) -> None:
    r"""Read Open Images metadata and propose its images.

    \b
    Example: python cli.py candidates --metadata test-images-with-rotation.csv --workspace workspace
    """
    from curation.candidates import propose_candidates
    from manifests.workspace import Workspace

    counts = propose_candidates(
        Workspace(workspace), metadata, image_ids_path=image_ids, subset=subset, limit=limit
    )
    _counted("candidates", counts)


@app.command()
def download(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    base_url: Annotated[str | None, typer.Option(help="A mirror with pictures at URL/<subset>/<id>.jpg.")] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Let private and loopback addresses pass.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Pictures fetched at a time.")] = 16,
    retry: Annotated[
        list[str] | None, typer.Option(help="Fetch images of this status again, e.g. failed.")
    ] = None,
) -> None:
    r"""Download every candidate that is not there yet, with a status and a reason for each.

    \b
    Example: python cli.py download --workspace workspace --retry failed
    """
    from curation.download import download_pictures
    from curation.fetch import FetchPolicy
    from manifests.workspace import Workspace

    counts = download_pictures(
        Workspace(workspace), base_url=base_url, policy=FetchPolicy(allow_private=allow_private),
        n_workers=workers, retry=retry or (),
    )  # fmt: skip
    _counted("download", counts)


@app.command()
def embed(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: Annotated[
        str, typer.Option(help="open_clip model name, or an open_clip config file (.json).")
    ] = "ViT-B-32",
    pretrained: Annotated[
        str | None, typer.Option(help="Weights tag of that model, or a local checkpoint.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(help="Take a classifier's features (a folder) instead of CLIP.")
    ] = None,
    feature_set: Annotated[str, typer.Option("--set", help="With --features: which set.")] = "candidates",
    tiles: Annotated[int, typer.Option(help="Tiles a side besides the whole picture; 0 for none.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Views in one call of the model.")] = 64,
    workers: Annotated[int, typer.Option(help="Threads that decode ahead of the model.")] = 2,
    device: DeviceOption = "auto",
) -> None:
    r"""Embed every downloaded picture, whole and in tiles, with a CLIP model.

    \b
    Example: python cli.py embed --model ViT-B-32 --pretrained laion2b_s34b_b79k --workspace workspace
    """
    from curation.embed import embed_from_features, embed_pictures
    from manifests.workspace import Workspace

    if features is not None:
        summary = embed_from_features(Workspace(workspace), features, feature_set)
    else:
        summary = embed_pictures(
            Workspace(workspace), model, pretrained, grid=tiles, batch_size=batch_size, device=device,
            n_workers=workers, announce=_announce,
        )  # fmt: skip
    print(
        f"embed: {summary.n_new:,} new at {summary.images_per_s:.0f} images/s on {summary.device}, "
        f"{summary.n_kept:,} there already, {summary.n_unreadable:,} unreadable; store {summary.digest}"
    )


@app.command()
def screen(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    classes: Annotated[
        Path | None, typer.Option(help="CSV class_index,name[,wnid]; default: ImageNet-1K.")
    ] = None,
    templates: Annotated[str, typer.Option(help="Prompt ensemble: openai (80) or simple (7).")] = "openai",
    embeddings: Annotated[
        str | None, typer.Option(help="Digest of the embeddings, where there are several.")
    ] = None,
    in_class_above: Annotated[
        float | None, typer.Option(help="Drop pictures over this class similarity; default: none.")
    ] = None,
    control_share: Annotated[float, typer.Option(help="Share of those that annotators get all the same.")] = 0.05,
    near_duplicate_above: Annotated[float, typer.Option(help="Least cosine of a near-duplicate pair.")] = 0.9,
    near_duplicate_bits: Annotated[int, typer.Option(help="Most differing bits, of 64, of its hashes.")] = 8,
    seed: Annotated[int, typer.Option(help="Chooses the control images.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    r"""Compare embeddings with the classes: ten to show, a risk, near-duplicates, what to drop.

    \b
    Example: python cli.py screen --in-class-above 0.32 --workspace workspace
    """
    from curation.screen import ScreenRules, screen_pictures
    from manifests.workspace import Workspace

    rules = ScreenRules(in_class_above, control_share, near_duplicate_above, near_duplicate_bits, seed)
    counts = screen_pictures(
        Workspace(workspace), rules, classes_path=classes, template_set=templates,
        embeddings_digest=embeddings, device=device, announce=_announce,
    )  # fmt: skip
    _counted("screen", counts)


@app.command("build-manifest")
def build_manifest_command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    name: Annotated[str, typer.Option(help="Name of the set.")] = "openimage_o",
    version: Annotated[str, typer.Option(help="X.Y.Z.")] = "1.0.0",
    from_list: Annotated[
        list[str] | None, typer.Option(help="An official list instead of verdicts: [SPLIT=]FILE.")
    ] = None,
) -> None:
    r"""Freeze the images agreed to be out of distribution, or an official list, as a manifest.

    \b
    Example: python cli.py build-manifest --from-list openimage_o.txt --workspace workspace
    """
    from manifests.build import DEFAULT_SPLIT, build_manifest
    from manifests.workspace import Workspace

    lists = []
    for value in from_list or ():
        split, equals, path = value.partition("=")
        lists.append((split, Path(path)) if equals else (DEFAULT_SPLIT, Path(value)))
    manifest = build_manifest(Workspace(workspace), name, version, lists=lists)
    _counted(f"manifest {manifest.folder.name}", manifest.header["counts"])
    print(f"  {manifest.folder}, records sha256 {manifest.header['content_sha256']}")


@app.command()
def export(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    export_format: Annotated[str, typer.Option("--format", help="openood.")] = "openood",
    manifest: Annotated[str | None, typer.Option(help="<name>-<X.Y.Z>, where there are several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: <workspace>/exports/<manifest>/<format>.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Place the pictures too, as hard links.")] = False,
) -> None:
    r"""Write a manifest as the lists that an evaluation loader reads.

    \b
    Example: python cli.py export --format openood --pictures --workspace workspace
    """
    from manifests.export import export_manifest
    from manifests.frozen import find_manifest
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    frozen = find_manifest(space.manifests_dir, manifest)
    out_dir = out or space.root / "exports" / frozen.folder.name / export_format
    for path in export_manifest(frozen, export_format, out_dir, pictures_of=space if pictures else None):
        print(f"export: {path}")


@app.command()
def status(workspace: WorkspaceOption = DEFAULT_WORKSPACE) -> None:
    r"""Show the funnel: how many images stand at which stage, and why the others left.

    \b
    Example: python cli.py status --workspace workspace
    """
    from manifests.funnel import format_funnel, funnel
    from manifests.workspace import Workspace

    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: there is no such folder; 'candidates' makes one")
    print(format_funnel(funnel(Workspace(workspace))))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 done, 1 our error, 2 usage, 130 interrupted."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="openimage-o")
    except SystemExit as finished:
        code = finished.code if isinstance(finished.code, int) else 0
        if code == EXIT_INTERRUPTED:
            print("interrupted: what was done is saved, the same command goes on from there", file=sys.stderr)
        return code
    except OpenImageOError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_OUR_ERROR
    except OSError as error:
        # A full disk, a folder that may not be written: what is on disk is whole, as every write is a rename.
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_OUR_ERROR
    return 0


def main() -> NoReturn:
    """Entry point of ``python cli.py`` and of the installed script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
