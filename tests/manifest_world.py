"""A workspace just before `build-manifest`: small pictures, all tables, a chained decision log."""

import functools
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import schema
from manifests.verify import Against, verify_manifest
from manifests.workspace import Workspace
from tests.picture_workspace import jpeg, scene

LICENCES = ("https://creativecommons.org/licenses/by/2.0/", "http://creativecommons.org/licenses/by-nc/2.0", None)


def small_picture(number):
    return _picture(number % 7)


@functools.cache
def _picture(number):
    return jpeg(scene(number).resize((40 + number, 30)), 80)


def log_lines(*rows):
    """Return a log whose every line carries the SHA-256 of the line before it."""
    lines, previous = [], "0" * 64
    for row in rows:
        lines.append(json.dumps({**row, "previous": previous}).encode())
        previous = hashlib.sha256(lines[-1]).hexdigest()
    return b"".join(line + b"\n" for line in lines)


def image_name(number):
    return f"{number:016x}"


def world(root, n_images=30, *, has_pictures=True, words=None):
    """Return a workspace of `n_images` images; `words` gives verdicts by number, all others are ``out``.

    Licences go round `LICENCES`; sides are (40 + number % 7) x 30; risk grows with the number.
    """
    space = Workspace(root)
    words = words or {}
    candidates, downloads, screen, verdicts = [], [], [], []
    for number in range(n_images):
        name, content = image_name(number), small_picture(number)
        path = space.relative_image_path(name)
        if has_pictures:
            (space.root / path).parent.mkdir(parents=True, exist_ok=True)
            (space.root / path).write_bytes(content)
        candidates.append({
            "image_id": name, "subset": "test", "url": f"https://mirror.invalid/{name}.jpg",
            "title": f"No. {number}", "author": "<b>somebody</b>", "license_url": LICENCES[number % 3],
        })  # fmt: skip
        downloads.append({
            "image_id": name, "status": "ok", "attempts": 1, "sha256": hashlib.sha256(content).hexdigest(),
            "size_bytes": len(content), "width_px": 40 + number % 7, "height_px": 30, "path": path,
        })  # fmt: skip
        screen.append({"image_id": name, "status": "review", "risk": number / n_images, "is_control": False})
        verdicts.append(verdict(number, words.get(number, "out")))
    space.write(schema.CANDIDATES, candidates)
    space.write(schema.DOWNLOADS, downloads)
    space.write(schema.SCREEN, screen)
    space.write(schema.VERDICTS, verdicts)
    space.decisions_dir.mkdir(exist_ok=True)
    (space.decisions_dir / "ana.jsonl").write_bytes(log_lines({"n": 1}, {"n": 2}, {"n": 3}))
    return space


def verdict(number, word, n_out=2):
    n_in = 2 if word == "in" else 0
    return {"image_id": image_name(number), "verdict": word, "source": "consensus", "n_out": 0 if n_in else n_out,
            "n_in": n_in, "n_difficult": 0}  # fmt: skip


def set_verdicts(space, words, n_images):
    space.write(schema.VERDICTS, [verdict(number, words.get(number, "out")) for number in range(n_images)])


def shuffled(space, table, order):
    """Write a table's rows in another order, as another program might."""
    rows = space.read(table)
    pq.write_table(rows.take(pa.array(order)), space.path_of(table), row_group_size=7)


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def problems(folder, **against):
    """Return the problems that a frozen set has, texts by kind."""
    report = verify_manifest(folder, Against(**against))
    return {kind: texts for kind, texts in report.problems.items() if texts}
