"""`build-manifest`: a frozen set, of the images agreed to be out or of lists that are official."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from manifests.commands.options import (
    DEFAULT_WORKSPACE,
    AllowPrivateOption,
    ProxyOption,
    WorkspaceOption,
    pairs,
    refuse_without_effect,
)
from manifests.commands.summary import counted
from manifests.completion import quality_checks, words
from manifests.errors import InputError
from manifests.run_report import current_report

_WEB = ("http://", "https://")


@dataclass(frozen=True)
class ListFiles:
    """Lists of ids that are named by their address; who fetches them is `curation`.

    Attributes
    ----------
    path_of : callable
        Takes an address and a folder, None for the user's cache; returns where the list lies, fetched or not.
    fetch : callable
        Takes these and settings of the requests, and returns the file.
    """

    path_of: Callable[[str, Path | None], Path]
    fetch: Callable[..., Path]


def build_manifest(
    list_files: ListFiles,
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
        str | None,
        typer.Option(
            help="The lists must be those that vim or openood published.", autocompletion=words("vim", "openood")
        ),
    ] = None,
    licence: Annotated[
        list[str] | None, typer.Option("--licence", "--license", help="Allow this URL or cc-by-2.0; repeatable.")
    ] = None,
    min_side: Annotated[int | None, typer.Option(help="Least pixels of the shorter side.")] = None,
    max_aspect: Annotated[float | None, typer.Option(help="Largest ratio of the sides.")] = None,
    exclude_quality: Annotated[
        str | None,
        typer.Option(help="Leave out what `quality` flagged: blur,dark,...", autocompletion=quality_checks),
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
    from manifests.build import build_manifest as freeze
    from manifests.draws import DEFAULT_SPLITS
    from manifests.selection import BuildRules
    from manifests.workspace import Workspace

    if from_list:
        refuse_without_effect(context, "with --from-list, which names the splits", ["split"])
    rules = BuildRules(
        licences=tuple(licence or ()), min_side_px=min_side, max_aspect=max_aspect,
        exclude_quality=tuple(exclude_quality.split(",")) if exclude_quality else (),
        max_per_group=max_per_duplicate_group, target=target, seed=seed,
        splits=dict(DEFAULT_SPLITS) if split is None else _shares(split),
    )  # fmt: skip
    if _plans_lists(list_files, from_list or (), cache):
        return
    fetching = {"allow_private": allow_private, "proxy": proxy}
    lists = [_id_list(list_files, value, cache, fetching) for value in from_list or ()]
    manifest = freeze(Workspace(workspace), name, version, lists=lists, official=official, rules=rules)
    header = manifest.header
    counted(f"manifest {manifest.folder.name}", header["counts"])
    if header["left_out"]:
        counted("  left out", header["left_out"])
    for line in (header.get("official") or {}).get("checked", ()):
        print(f"  {line}")
    print(f"  {manifest.folder}, records sha256 {header['content_sha256']}, Merkle root {header['merkle_root']}")
    print(f"  header sha256 {header['header_sha256']}: publish it, and 'verify-manifest --expect' compares it")


def _shares(values: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(share) for name, share in pairs(values, "--split").items()}
    except ValueError as error:
        raise InputError(f"--split: expected NAME=SHARE such as val=0.1 ({error})") from error


def _split_and_place(value: str) -> tuple[str, str]:
    from manifests.draws import REST_SPLIT

    split, equals, place = value.partition("=")
    # An address may hold a "=" of its own.
    return (REST_SPLIT, value) if not equals or "/" in split else (split, place)


def _plans_lists(list_files: ListFiles, values: Sequence[str], cache: Path | None) -> bool:
    """Return whether this is a dry run that ends here, with a plan of the lists to fetch first."""
    if not current_report().is_dry_run:
        return False
    from manifests.work_plan import Fetch, WorkPlan

    paths = {
        place: list_files.path_of(place, cache)
        for _, place in map(_split_and_place, values)
        if place.startswith(_WEB)
    }
    missing = {place: path for place, path in paths.items() if not path.exists()}
    if missing:
        current_report().plan = WorkPlan(
            len(missing), len(values) - len(missing), unit="lists",
            writes=[str(path) for path in missing.values()],
            fetches=[Fetch(path.name, place) for place, path in missing.items()],
        )  # fmt: skip
    return bool(missing)


def _id_list(
    list_files: ListFiles, value: str, cache: Path | None, fetching: Mapping[str, Any]
) -> tuple[str, Path]:
    """Return a list's split and file; one that is named by its address is fetched."""
    split, place = _split_and_place(value)
    if not place.startswith(_WEB):
        return split, Path(place)
    return split, list_files.fetch(place, cache, **fetching)
