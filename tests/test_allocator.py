import subprocess
import sys

import pytest

from manifests.allocator import keep_freed_memory
from tests.conftest import REPOSITORY

# 64 MiB, again and again, each time freed: 16,384 pages of 4 KiB that are either kept or zeroed anew.
PROGRAM = """
import resource, sys, torch
from manifests.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(20):
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)


def test_freed_memory_is_used_again_instead_of_zeroed_anew():
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")
    assert page_faults("as it is") > 10 * page_faults("kept")


def test_asking_again_costs_nothing_and_says_the_same():
    first = keep_freed_memory()
    assert [keep_freed_memory() for _ in range(3)] == [first] * 3


@pytest.mark.parametrize(("platform", "library"), [("darwin", None), ("linux", object())])
def test_without_glibc_nothing_happens(platform, library, monkeypatch):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("ctypes.CDLL", lambda name: library)
    assert keep_freed_memory.__wrapped__() is False
