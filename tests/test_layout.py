import ast
import resource
import subprocess
import sys

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
# Where the command line is: what it calls knows nothing of it.
COMMANDS = tuple(f"{name}/commands/" for name in PACKAGES)
# Where each library may be imported; of the heavy ones, manifests loads none.
HOMES = {
    "open_clip": ("curation/clip.py",),
    "timm": ("scoring/classifier.py",),
    "urllib3": ("curation/network/",),
    "fiftyone": ("annotation/app/", "annotation/plugins/", "curation/bench/screen/fiftyone_brain.py"),
    "matplotlib": ("scoring/plots/", "curation/screening/plots/", "manifests/plots/"),
    "pytorch_ood": ("scoring/bench/",),
    "ray": ("curation/engine/ray_cluster.py",),
    "lmdb": ("curation/localize/referring_lmdb.py",),
    "torch": ("curation/", "scoring/", "manifests/devices.py", "manifests/tensor_files.py"),
    "tqdm": ("manifests/stage_progress.py", "curation/bench/", "scoring/bench/"),
    "typer": ("cli.py", *COMMANDS, "manifests/stage_commands.py", "manifests/completion.py"),
}


def source_files():
    return [
        REPOSITORY / "cli.py",
        *(path for name in PACKAGES for path in sorted((REPOSITORY / name).rglob("*.py"))),
    ]


def imported_modules(path, *, with_the_file=False):
    """Yield what a file imports; `with_the_file` leaves out what its functions do when they are called."""
    tree = ast.parse(path.read_text())
    for node in tree.body if with_the_file else ast.walk(tree):
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


def test_no_test_imports_from_another():
    for path in sorted((REPOSITORY / "tests").glob("*.py")):
        imported = [module for module in imported_modules(path) if module.startswith("tests.test_")]
        assert not imported, f"{path.name} imports {imported}: what two files need has its home in a *_world.py"


def test_only_the_command_line_imports_commands():
    homes = ("cli.py", *COMMANDS)
    for path in source_files():
        relative = path.relative_to(REPOSITORY).as_posix()
        for module in imported_modules(path):
            top, _, rest = module.partition(".")
            is_command = top in PACKAGES and rest.split(".")[0] == "commands"
            assert relative.startswith(homes) or not is_command, f"{relative} imports {module}"


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_only_at_its_home(library):
    for path in source_files():
        if library in {module.split(".")[0] for module in imported_modules(path)}:
            relative = path.relative_to(REPOSITORY).as_posix()
            assert relative.startswith(HOMES[library]), f"{relative} imports {library}"


def test_manifests_imports_torch_only_inside_functions():
    for path in (REPOSITORY / "manifests").rglob("*.py"):
        for module in imported_modules(path, with_the_file=True):
            assert not module.startswith(("torch", "safetensors.torch")), f"{path} imports {module}"


def test_help_answers_in_a_second_without_torch_and_fiftyone():
    program = (
        "import sys, cli\n"
        "code = cli.run(['--help'])\n"
        "heavy = {'torch', 'fiftyone', 'open_clip', 'timm', 'pyarrow', 'pandas', 'numpy'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "build-manifest" in finished.stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor, as a busy machine makes anything wait.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_no_file_names_a_machine_path():
    for path in source_files():
        for banned in ("/work/", "/root/", "/tmp/"):
            assert banned not in path.read_text(), f"{path}: {banned}"
