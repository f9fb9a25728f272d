"""The benchmark of recovery runs on a small budget, and every bar holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quick_run_recovers_every_layout_and_loses_nothing(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.recovery', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'recovery.json').read_text())
    assert len(found['rows']) == 20 and all(row['damages'] == 3 for row in found['rows'])
    assert all(row['recovered'] >= row['readable'] for row in found['rows'])
    assert {bar['name']: bar['value'] for bar in found['bars'] if 'slowest' not in bar['name']} == {
        'of 60 damages: messages that recovery lost': 0,
        'originals changed by a byte': 0,
        'messages that the reader of mcap does not find': 0,
    }
