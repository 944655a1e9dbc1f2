"""`export`: a frozen set as evaluation loaders read it."""

from pathlib import Path
from typing import Annotated

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, WorkspaceOption, refuse_without_effect
from manifests.completion import manifest_names, words
from manifests.run_report import current_report

_FORMATS = words(
    "openood", "pytorch-ood", "torch", "torchvision", "huggingface", "webdataset", "croissant", "fiftyone", "csv",
)  # fmt: skip


def export(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    export_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="openood (default), pytorch-ood, torch, torchvision, huggingface, webdataset, croissant, "
            "fiftyone or csv; repeatable.",
            autocompletion=_FORMATS,
        ),
    ] = None,
    manifest: Annotated[
        str | None, typer.Option(help="<name>-<X.Y.Z>, where there are several.", autocompletion=manifest_names)
    ] = None,
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
        refuse_without_effect(context, "without --format croissant", ("creator", "url", "published"))
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
