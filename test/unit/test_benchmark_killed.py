"""The benchmark that kills the recorder runs, and finds its bags readable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quick_run_kills_and_reads(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.killed', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'killed.json').read_text())
    assert len(found['rows']) == 1 and all(row['readable'] for row in found['rows'])
    assert all(row['messages'] > 100 and row['lost_in_between'] == 0 for row in found['rows'])
    assert [bar['holds'] for bar in found['bars'] if 'readable' in bar['name']] == [True]
