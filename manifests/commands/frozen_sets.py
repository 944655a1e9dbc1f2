"""`verify-manifest`, `retire` and `diff`: what is done with sets that are frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, WorkspaceOption
from manifests.commands.summary import counted
from manifests.completion import manifest_names
from manifests.errors import InputError

if TYPE_CHECKING:
    from manifests.workspace import Workspace

LogProblems = Callable[["Workspace"], list[str]]
"""Returns what is wrong with a workspace's decision logs, whose reader belongs to `annotation`."""


def verify_manifest(
    log_problems: LogProblems,
    manifest: Annotated[
        Path,
        typer.Argument(help="Folder of one version, or its name in the workspace.", autocompletion=manifest_names),
    ],
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
    from manifests.verify import Against
    from manifests.verify import verify_manifest as verify
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
    report = verify(folder, Against(images, space, depth, log_problems, expect))
    print("\n".join(report_lines(report)))
    if report.n_problems:
        raise InputError(f"{report.name}: {report.n_problems:,} problems; they are listed above")
    if prove is not None:
        print(_proof(folder, prove))


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


def retire(
    image_id: Annotated[str, typer.Argument(help="The image.")],
    reason: Annotated[str, typer.Option(help="Why; it is published with every later version.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    manifest: Annotated[
        str | None,
        typer.Option(
            help="Version that holds it, such as openimage_o-1.0.0; default: any.", autocompletion=manifest_names
        ),
    ] = None,
) -> None:
    """Withdraw a frozen image: exports and later versions leave it out; frozen versions stay as they are.

    \b
    Example: python cli.py retire 0a1b2c3d4e5f6071 --reason "the author asked for it" --workspace workspace
    """
    from manifests.tombstones import retire as withdraw
    from manifests.workspace import Workspace

    stone = withdraw(Workspace(workspace), image_id, reason, manifest=manifest)
    print(f"retired {stone.image_id} of {stone.manifest} at {stone.at}: {stone.reason}")


def diff(
    before: Annotated[
        Path,
        typer.Argument(help="Folder of one version, or its name in the workspace.", autocompletion=manifest_names),
    ],
    after: Annotated[Path, typer.Argument(help="The same of the other version.", autocompletion=manifest_names)],
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
        counted("diff", change_counts(differences))
    else:
        print(diff_csv(differences), end="")
