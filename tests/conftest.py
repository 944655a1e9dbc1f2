import os
from pathlib import Path

import pytest

# Before torch is loaded: threads that spin while they wait take the cores from the other processes of the tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository, or where OPENIMAGE_O_SHARED points."""
    folder = Path(os.environ.get("OPENIMAGE_O_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data" / "README.md").is_file():
        pytest.skip(f"real data is not at hand: {folder} is absent (set OPENIMAGE_O_SHARED)")
    return folder


@pytest.fixture(scope="module")
def browser():
    """Chromium, for the tests of one file."""
    pytest.importorskip("playwright")
    # Not above: the App's own modules are for those tests alone that open it.
    from tests.annotation_app import launched_chromium

    with launched_chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def opened(browser, app):
    """One annotator's page in the `app` of the file."""
    from tests.annotation_app import own_screen

    with own_screen(browser, app) as screen:
        yield screen
