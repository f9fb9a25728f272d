"""The benchmark of control runs on a small budget and leaves what programs read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[2]


def test_a_quick_run_of_control_watches_an_echo_and_the_policy_node(graph, tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.control', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'control.json').read_text())
    rows = {row['who']: row for row in found['rows']}
    assert list(rows) == ['echo', 'steady', 'reloading', 'dashboard']
    for row in rows.values():
        assert row['commands'] > 0 and row['jumps'] > 0 and row['cores'] > 0
        assert 0 < row['latency_p50'] <= row['latency_p99'] and 0 < row['gap_p50'] <= row['gap_max']
    assert all(rows[name]['lateness_p99'] > 0 for name in ('steady', 'dashboard'))
    assert len(found['bars']) == 6
