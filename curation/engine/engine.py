"""What a stage asks of whatever runs its shards, and how one is chosen by its name on the command line."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from manifests.errors import InputError

ShardT = TypeVar("ShardT")
ResultT = TypeVar("ResultT")

ENGINE_NAMES = ("local", "ray")


class Engine(Protocol):
    """Runs one function over shards of work.

    A shard holds all that its work depends on, so that it does not matter where it runs, nor, where a machine is
    lost, that it runs again.
    """

    @property
    def n_slots(self) -> int:
        """How many shards of one core are worked on at a time."""
        ...

    def map(
        self,
        function: Callable[[ShardT], ResultT],
        shards: Iterable[ShardT],
        *,
        n_cores: int = 1,
        n_gpus: int = 0,
        most_at_once: int | None = None,
    ) -> Iterator[ResultT]:
        """Yield ``function(shard)`` of every shard, in their order, a bounded number of shards ahead.

        Parameters
        ----------
        function : callable
            Of a module, as it is pickled by name. What it raises is raised here, in the shard's turn.
        shards : iterable
            Drawn as room is made; each can be pickled.
        n_cores, n_gpus : int
            What each shard has for itself, where the engine hands machines out.
        most_at_once : int, optional
            Fewer shards at a time than there is room for.
        """
        ...


@contextlib.contextmanager
def cluster_engine(name: str) -> Iterator[Engine | None]:
    """Yield the engine of that name; None is this machine, which each stage uses in its own way.

    Parameters
    ----------
    name : str
        One of `ENGINE_NAMES`.

    Raises
    ------
    InputError
        There is no such engine.
    ToolMissingError
        Ray is not installed, or its cluster cannot be had.
    """
    if name not in ENGINE_NAMES:
        raise InputError(f"--engine: expected {' or '.join(ENGINE_NAMES)}, found {name!r}")
    if name == "local":
        yield None
        return
    # Not at the top: Ray is imported for those who ask for it.
    from curation.engine.ray_cluster import connected

    with connected() as engine:
        yield engine
