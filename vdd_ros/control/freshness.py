"""Freshness of the measured state: fresh, late, or too old to act on."""

from __future__ import annotations

from dataclasses import dataclass

from vdd_ros.errors import ConfigurationError


@dataclass(frozen=True)
class Freshness:
    """How old a measurement may be [ns]."""

    max_age: int
    """An older one is not acted on: the arm holds."""

    def __post_init__(self) -> None:
        """Refuse an age that nothing can meet."""
        if self.max_age <= 0:
            raise ConfigurationError(expected='max_age above 0', found=str(self.max_age), remedy='set it in seconds')

    def is_fresh(self, stamp: int | None, now: int) -> bool:
        """Tell whether a measurement of ``stamp`` [ns] may be acted on at ``now`` [ns]."""
        return stamp is not None and now - stamp <= self.max_age
