"""The benchmark of deployed students runs on a small budget and leaves what programs read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.realtime

ROOT = Path(__file__).parents[2]


def quick(folder: Path, *parts: str) -> dict:
    """Run parts of the benchmark on the smallest budget, and return what it stored."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.deployed', '--quick', '--only', *parts]
    done = subprocess.run(command, cwd=folder, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / 'runs' / 'benchmarks' / 'deployed.json').read_text())


def test_a_quick_run_compares_one_and_two_controllers_of_the_same_student(tmp_path):
    found = quick(tmp_path, 'controllers')
    rows = {row['what']: row for row in found['rows']}
    assert list(rows) == [
        f'{count}, {over}, ur5e, full'
        for count in ('one controller', 'two controllers')
        for over in ('in process, 500 Hz', 'over DDS, 250 Hz')
    ]
    assert len({row['student'] for row in found['rows']}) == 1
    for what, row in rows.items():
        assert row['tool jerk'] > 0 and row['tool jerk shown'] > 0, what
        # The student goes straight on, into the post, with the gripper as it is.
        assert (row['causes'], row['success']) == ('collision', 0.0), what
        assert 0 < row['velocity used'] <= 1 + 1e-6 and 0 < row['jerk used'] <= 1 + 1e-6, what
    (compared,) = [bar for bar in found['bars'] if 'over DDS' in bar['name'] and 'under that of one' in bar['name']]
    assert compared['value'] == 0 and compared['holds']


def test_a_quick_run_measures_in_process_over_dds_and_under_faults(tmp_path):
    found = quick(tmp_path, 'process', 'dds', 'faults')
    still, simulated, real, *faults = found['rows']
    assert [row['part'] for row in found['rows']] == ['process', 'process', 'dds', 'faults', 'faults']
    assert (still['what'], simulated['what'], real['what']) == ('lockstep', '250 Hz, model, full', '250 Hz, fr3, full')
    # The student goes straight on, into the first post.
    assert [row['causes'] for row in (still, simulated, real)] == ['collision'] * 3
    for row in (simulated, real):
        assert 0 < row['jerk used'] <= 1 + 1e-6 and 0 < row['velocity used'] <= 1 + 1e-6
        assert row['tool jerk'] > 0 and row['tool jerk shown'] > 0
    assert real['commands'] > 50 and 0 <= real['lateness p50 [ms]'] <= real['lateness p99 [ms]']
    assert [row['what'] for row in faults] == ['all zeros', 'zeros every second message']
    assert all('no arm moves so fast' in row['reason'] and row['beyond it [mrad]'] < 5 for row in faults)
    assert {'name', 'value', 'bar', 'holds'} <= found['bars'][0].keys()
