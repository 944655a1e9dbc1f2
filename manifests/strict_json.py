"""Reading JSON in which no name stands twice: of two values, readers take different ones."""

import json
from typing import Any


def strict_json(text: str | bytes) -> Any:
    """Return the value that a JSON text writes.

    Raises
    ------
    ValueError
        It is no JSON, or an object in it states a name twice.
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found
