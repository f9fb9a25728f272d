"""Progress reports of long jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Progress = Callable[[str, float, float, Mapping[str, float]], None]
"""Called with `(step, done, total, metrics)`, for a bar on a terminal, a log or diagnostics."""


def silent(step: str, done: float, total: float, metrics: Mapping[str, float]) -> None:
    """Ignore the progress."""
