"""Registers the judging operators with FiftyOne; their code is in `annotation.app.operators`."""

from typing import Any

from annotation.app.operators import OPERATORS


def register(plugin: Any) -> None:
    """Register every operator; FiftyOne calls this when it loads the plugin."""
    for operator in OPERATORS:
        plugin.register(operator)
