"""One thread for work in small parts."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work in this thread alone; as a decorator, while a function runs.

    Sums over 48 x 48 pixels are too short to share out: two threads of a quiet machine gain little, and on one
    with other work they wait for each other longer than they work.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
