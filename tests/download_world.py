"""Candidates, pictures for a server on the loopback, and downloads from it, in this process and in another."""

import io
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from curation.download import download_pictures
from curation.fetch import FetchPolicy
from manifests import schema
from tests import fault_server
from tests.conftest import REPOSITORY
from tests.waiting import HANGS_S

QUICK = FetchPolicy(
    allow_private=True, max_attempts=3, socket_timeout_s=10.0, deadline_s=30.0, max_bytes=300_000,
    first_wait_s=0.01, longest_wait_s=0.02,
)  # fmt: skip


def picture(seed, side=96):
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(stream, "JPEG")
    return stream.getvalue()


GOOD = picture(0)


def propose(workspace, image_ids):
    rows = [
        {"image_id": image_id, "subset": "test", "url": f"https://mirror.invalid/test/{image_id}.jpg"}
        for image_id in image_ids
    ]
    workspace.write(schema.CANDIDATES, rows)
    return workspace


def run_download(workspace, server, **options):
    options = {"policy": QUICK, "max_failures": 1.0} | options
    return download_pictures(workspace, base_url=server.base_url, **options)


def start_download(workspace, base_url, n_workers=4):
    command = [
        sys.executable, "cli.py", "download", "--workspace", str(workspace.root), "--base-url", base_url,
        "--allow-private", "--workers", str(n_workers), "--max-failures", "0.2",
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Return the exit code and what is on standard error, but for the next step."""
    _, errors = process.communicate(timeout=HANGS_S)
    return process.returncode, "".join(line for line in errors.splitlines(keepends=True) if line[:6] != "next: ")


def tables_of(workspace):
    pictures = {str(p.relative_to(workspace.root)): p.read_bytes() for p in workspace.root.glob("images/*/*")}
    return workspace.path_of(schema.DOWNLOADS).read_bytes(), pictures


def many_pictures(n_images=200):
    names = [f"{number:04x}" for number in range(n_images)]

    def delayed(content):
        def script(handler, nth):
            time.sleep(0.02)
            handler.answer(200, content)

        return script

    scripts = {f"/test/{name}.jpg": delayed(picture(i)) for i, name in enumerate(names) if i % 10}
    scripts["/test/0000.jpg"] = fault_server.body(b"<html>")
    return names, scripts
