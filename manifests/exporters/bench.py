"""What `bench manifests` times of exports: lists, and a tree of hard links."""

from pathlib import Path

from manifests.exporters.export import export_manifest, exported_set
from manifests.frozen import Manifest
from manifests.workspace import Workspace

LISTS_LIMIT_S = 2.0
LINKS_LIMIT_S = 10.0


def export_lists(workspace: Workspace, manifest: Manifest, out_dir: Path) -> None:
    """Write OpenOOD's lists and the attribution."""
    export_manifest(exported_set(workspace, manifest), "openood", out_dir)


def make_pictures(workspace: Workspace, manifest: Manifest, _: Path) -> None:
    """Put a file where each picture belongs: its id, whose digest the made-up tables state.

    So the next step times links and folders; what hashing true pictures adds follows from the machine's rate.
    """
    for image_id in sorted(manifest.image_ids):
        path = workspace.root / workspace.relative_image_path(image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_id.encode())


def export_links(workspace: Workspace, manifest: Manifest, out_dir: Path) -> None:
    """Write torchvision's tree of hard links, each compared with its digest."""
    export_manifest(exported_set(workspace, manifest), "torchvision", out_dir)


EXPORT_STEPS = (
    ("export OpenOOD's lists", LISTS_LIMIT_S, export_lists),
    ("(making files to link)", None, make_pictures),
    ("export a tree of hard links", LINKS_LIMIT_S, export_links),
)
"""As `manifests.bench.bench_manifests` takes them."""
