"""Serves the App of `bench annotate` in a process of its own: FiftyOne reads its settings once a process."""

import sys
from pathlib import Path

from annotation.annotate import annotate
from annotation.browse import browse
from manifests.workspace import Workspace

ANNOTATOR = "ann"


def serve(role: str, root: Path) -> None:
    """Serve the workspace in `root` to an annotator, or to a curator, until SIGTERM."""
    if role == "annotator":
        annotate(Workspace(root), [ANNOTATOR], examples_dir=root / "examples")
    else:
        browse(Workspace(root))


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
