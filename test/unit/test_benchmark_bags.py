"""The benchmark of reading runs on a small budget, and what must always hold holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quick_run_measures_every_part_and_loses_nothing(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    parts = ('speed', 'memory', 'cores', 'parity', 'faults')  # that which kills has a test of its own
    command = [sys.executable, '-m', 'benchmarks.bags', '--quick', '--parts', *parts]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'bags.json').read_text())
    assert {row['part'] for row in found['rows']} == set(parts)
    holds = {bar['name']: bar['holds'] for bar in found['bars']}
    assert len(holds) == 10
    timed = ('one core', 'rosbags', 'two cores', 'slowest', 'memory')
    assert all(held for name, held in holds.items() if not any(word in name for word in timed)), holds
