"""The benchmark of inference runs on a small budget and leaves what programs read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def test_a_quick_run_of_inference_compares_students_with_teachers_and_with_themselves(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.inference', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'inference.json').read_text())
    rows = {row['policy']: row for row in found['rows']}
    student = ['student', 'student, with OOD scores', 'student, whole plan']
    teacher = ['teacher, eager', 'teacher, same runtime']
    assert list(rows) == [*teacher, *student, 'transformer, eager', 'transformer']
    assert all(0 < row['p50 [us]'] <= row['p99 [us]'] for row in rows.values())
    # Each is part of the next one.
    assert np.all(np.diff([rows[name]['p50 [us]'] for name in student]) > 0)
    assert rows['transformer']['parameters'] > 4_000_000
    bars = {bar['name']: bar for bar in found['bars']}
    assert len(bars) == 6 and bars['transformer, greatest difference of the answers']['holds']
