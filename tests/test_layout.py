import ast
import subprocess
import sys
import time

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("annotation", "curation", "manifests", "scoring")
ALLOWED = {
    "manifests": {"manifests"},
    "curation": {"curation", "manifests"},
    "annotation": {"annotation", "manifests"},
    "scoring": {"scoring", "manifests"},
    "cli": {*PACKAGES, "cli"},
}
# Where each heavy library may be imported; manifests may import none of them.
HOMES = {
    "open_clip": ("curation/clip.py",),
    "timm": ("scoring/classifier.py",),
    "urllib3": ("curation/network/",),
    "fiftyone": ("annotation/app/", "annotation/plugins/", "curation/bench/screen/fiftyone_brain.py"),
    "matplotlib": ("scoring/plots/", "curation/screening/plots/", "manifests/report/drawing.py"),
    "pytorch_ood": ("scoring/bench/",),
    "ray": ("curation/engine/ray_cluster.py",),
    "torch": ("curation/", "scoring/"),
}


def source_files():
    return [
        REPOSITORY / "cli.py",
        *(path for name in PACKAGES for path in sorted((REPOSITORY / name).rglob("*.py"))),
    ]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def test_imports_point_down():
    for path in source_files():
        own = path.relative_to(REPOSITORY).parts[0].removesuffix(".py")
        for module in imported_modules(path):
            top = module.split(".")[0]
            if top in (*PACKAGES, "cli"):
                assert top in ALLOWED[own], f"{path.relative_to(REPOSITORY)} imports {module}"


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_is_imported_only_at_its_home(library):
    for path in source_files():
        if library in {module.split(".")[0] for module in imported_modules(path)}:
            relative = path.relative_to(REPOSITORY).as_posix()
            assert relative.startswith(HOMES[library]), f"{relative} imports {library}"


def test_help_answers_in_a_second_without_torch_and_fiftyone():
    program = (
        "import sys, cli\n"
        "code = cli.run(['--help'])\n"
        "heavy = {'torch', 'fiftyone', 'open_clip', 'timm', 'pyarrow', 'pandas', 'numpy'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)\n"
    )
    started = time.monotonic()
    finished = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "build-manifest" in finished.stdout
    assert time.monotonic() - started < 1.0


def test_no_file_names_a_machine_path():
    for path in source_files():
        for banned in ("/work/", "/root/", "/tmp/"):
            assert banned not in path.read_text(), f"{path}: {banned}"
