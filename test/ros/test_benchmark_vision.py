"""The policy node with two cameras runs on a small budget, and the bars judge what they are named after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.vision_node import node_bars
from benchmarks.vision_tasks import seen_bars

ROOT = Path(__file__).parents[2]


@pytest.mark.realtime
def test_a_quick_run_watches_the_policy_node_with_and_without_cameras(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.vision_node', '--seconds', '3']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'vision_node.json').read_text())
    names = ['without cameras', 'two cameras, light', 'two cameras, resnet18', 'without cameras']
    assert [row['method'] for row in found['rows']] == names
    for row in found['rows']:
        assert row['commands'] > 0 and row['cores'] > 0
    for row in found['rows'][1:3]:
        assert row['plans_per_second'] > 0 and row['images_per_second'] > 0 and 0 <= row['oldest_image_s'] < 5
    assert len(found['bars']) == 10


def watched(**change: float) -> list[dict[str, object]]:
    """Return rows of which every bar holds, but for a change of that with cameras."""
    row = {'seconds': 60.0, 'commands': 30_000, 'lateness_p99': 1.0, 'plans_per_second': 30.0, 'cores': 0.5}
    blind = {**row, 'method': 'without cameras'}
    return [blind, {**row, 'method': 'two cameras, light', **change}, {**blind, 'lateness_p99': 1.2}]


@pytest.mark.parametrize(
    ('change', 'failing'),
    [
        ({}, []),
        ({'commands': 29_960}, ['commands sent, share of those due']),
        ({'commands': 30_040}, ['the same at most']),
        ({'lateness_p99': 1.22}, ['lateness over that without, p99']),
        ({'plans_per_second': 19.0}, ['plans per second']),
        ({'plans_per_second': float('nan')}, ['plans per second']),
        ({'cores': 1.6}, ['cores']),
    ],
)
def test_each_bar_of_the_policy_node_fails_by_its_figure(change, failing):
    bars = node_bars(watched(**change))
    assert [bar.name.partition(': ')[2] for bar in bars if not bar.holds] == failing


def test_tasks_are_judged_by_the_means_of_their_own_rows():
    rows = [
        {'part': part, 'method': method, 'success': success, 'entropy': 0.9}
        for part, teacher, student in (('avoiding', 0.95, 0.92), ('placing', 0.9, 0.88))
        for method, success in (('teacher', teacher), ('student', student), ('em', 0.8), ('student, covered lens', 0.2))
    ]
    assert all(bar.holds for bar in seen_bars(rows)) and len(seen_bars(rows)) == 7
    rows[5]['success'] = 0.84
    assert [bar.name for bar in seen_bars(rows) if not bar.holds] == [
        'placing_seen, success of the student',
        'placing_seen, success of the student under its teacher',
    ]
    assert len(seen_bars(rows[:4])) == 5
