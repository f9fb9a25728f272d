"""What long work says of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Progress = Callable[[str, float, float, Mapping[str, float]], None]
"""`(step, done, total, metrics)`: a bar on a terminal, a log or diagnostics are made of it."""


def silent(step: str, done: float, total: float, metrics: Mapping[str, float]) -> None:
    """Say nothing."""
