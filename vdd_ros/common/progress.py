"""Progress reports of long jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Progress = Callable[[str, float, float, Mapping[str, float]], None]
"""Called as `(step, done, total, metrics)` repeatedly while a long job runs, for a bar on a terminal, a log or
diagnostics. `step` is the name of the present part of the job."""


def silent(step: str, done: float, total: float, metrics: Mapping[str, float]) -> None:
    """Ignore the progress."""
