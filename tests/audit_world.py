"""A frozen set of 800 images, and auditors who answer with real logs."""

import json

from annotation.decision_log import open_log
from manifests import schema
from manifests.build import build_manifest
from tests.annotation_workspace import decision
from tests.manifest_world import image_name, world

N_IMAGES = 800


def frozen_world(root, n_images=N_IMAGES, *, words=None):
    """Return a workspace with the frozen set ``set-1.0.0`` and no answers."""
    space = world(root, n_images, has_pictures=False, words=words)
    # A log of the manifests' tests, which no annotator could have written.
    (space.decisions_dir / "ana.jsonl").unlink()
    build_manifest(space, "set", "1.0.0")
    return space


def drawn(space, audit="set-1.0.0"):
    return space.read(schema.audit_table(audit)).column("image_id").to_pylist()


def say(space, name, image_ids, answers=None, queue="audit"):
    """Let one annotator answer with a real log: ``out`` but where `answers` says otherwise."""
    with open_log(space, name) as log:
        start = len(log.decisions)
        log.append_all([
            decision(f"{name}-{start + number}", one, (answers or {}).get(one, "out"), queue=queue)
            for number, one in enumerate(image_ids)
        ])  # fmt: skip


def certificate(space, audit="set-1.0.0"):
    return json.loads((space.root / "certificates" / f"{audit}.json").read_text())


def listed(space, numbers):
    path = space.root / "ids.txt"
    path.write_text("".join(f"{image_name(number)}\n" for number in numbers))
    return path
