"""The benchmark of rules runs on a small budget and leaves what programs read."""

from __future__ import annotations

import json

from benchmarks import rules


def test_a_quick_run_of_rules_measures_all_sizes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rules.main(quick=True) == 0
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'rules.json').read_text())
    rows = {row['rules']: row for row in found['rows']}
    assert all(0 < rows[f'{count} rules']['p50 [us]'] <= rows[f'{count} rules']['p99 [us]'] for count in (0, 1, 20, 60))
    assert [bar['name'] for bar in found['bars']] == ['20 rules, p99 [us]']
