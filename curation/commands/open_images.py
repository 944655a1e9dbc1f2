"""`candidates` and `labels`: what Open Images publishes of its pictures, out of files or of a release."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.commands.options import (
    DEFAULT_WORKSPACE,
    AllowPrivateOption,
    ProxyOption,
    WorkspaceOption,
    refuse_without_effect,
)
from manifests.commands.summary import announce, counted
from manifests.completion import words
from manifests.errors import InputError
from manifests.run_report import current_report

if TYPE_CHECKING:
    from curation.releases import ReleaseCache

_SUBSETS = words("train", "validation", "test")
_RELEASES = words("v3", "v7")

# What only requests need.
_FETCHING = ("cache", "base_url", "allow_private", "proxy")

CacheOption = Annotated[
    Path | None, typer.Option(help="With --release: folder of fetched files; default: the user's cache folder.")
]
ReleaseMirrorOption = Annotated[str | None, typer.Option(help="With --release: a mirror of Open Images' files.")]


def candidates(
    context: typer.Context,
    metadata: Annotated[
        Path | None, typer.Option(help="images.csv, its .tar.gz, *-with-rotation.csv, or a list of ids (.txt).")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    release: Annotated[
        str | None, typer.Option(help="Fetch the metadata of v3 or v7 instead.", autocompletion=_RELEASES)
    ] = None,
    cache: CacheOption = None,
    base_url: ReleaseMirrorOption = None,
    allow_private: AllowPrivateOption = False,
    proxy: ProxyOption = None,
    image_ids: Annotated[Path | None, typer.Option(help="Keep only the images of this list.")] = None,
    subset: Annotated[
        str | None, typer.Option(help="Keep only train, validation or test.", autocompletion=_SUBSETS)
    ] = None,
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
        refuse_without_effect(context, "with --metadata", _FETCHING)
    choice = Choice(image_ids, subset, limit, drop_original_duplicates)
    counted("candidates", propose_candidates(Workspace(workspace), Path(str(metadata)), choice))


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
    release: Annotated[
        str | None, typer.Option(help="Fetch the files of v3 or v7 instead of these.", autocompletion=_RELEASES)
    ] = None,
    subset: Annotated[
        list[str] | None,
        typer.Option(help="With --release: train, validation or test; default: test.", autocompletion=_SUBSETS),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="With --release: human or machine; default: both.", autocompletion=words("human", "machine")
        ),
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
        refuse_without_effect(context, "without --release", ("subset", "source", *_FETCHING))
        files = LabelFiles(human or (), machine or (), Path(str(class_names)))
    counted("labels", collect_labels(Workspace(workspace), files))


def _release_cache(folder: Path | None, base_url: str | None, **fetching: Any) -> "ReleaseCache":
    from curation.releases import cache_at

    return cache_at(folder, base_url, announce, is_read_only=current_report().is_dry_run, **fetching)


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
