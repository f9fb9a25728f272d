"""A student small enough for tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.constant_student import save_student

__all__ = ['save_student']
