"""The benchmark of the simulation runs on a small budget and leaves what programs read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[2]


def test_a_quick_run_of_the_simulation_measures_speed_pace_and_determinism(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.simulation', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'simulation.json').read_text())
    rows = {row['what']: row for row in found['rows']}
    assert list(rows) == [
        'in process, student',
        'in process, no network',
        'lockstep over DDS',
        'real time',
        'real time, RGB-D camera',
        'determinism',
    ]
    assert all(row['x real time'] > 1 for row in found['rows'][:3])
    assert rows['real time']['states'] > 50 and rows['real time, RGB-D camera']['pictures [Hz]'] > 0
    assert rows['determinism']['states'] > 50 and rows['determinism']['differing'] == 0
    assert len(found['bars']) == 8
