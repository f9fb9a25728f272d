"""Damaged bags: each is converted with a true account, or refused by name; no crash, no hang, no silent loss."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.bag_faults import FAULTS, STORAGES, bags


def test_every_fault_in_every_storage_is_accounted_for_or_refused():
    results = list(bags(range(2 * len(STORAGES) * len(FAULTS))))
    assert not [result for result in results if not result.good]
    assert {(result.storage, result.fault) for result in results} == {(a, b) for a in STORAGES for b in FAULTS}
    assert {result.outcome for result in results} == {'converted', 'refused'}
    whole = [result for result in results if result.fault == 'none']
    assert all(result.detail == '60 ticks' for result in whole), whole
