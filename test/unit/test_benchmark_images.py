"""The benchmark of pictures runs on a small budget, and what must always hold holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quick_run_finds_the_images_that_a_plain_loop_finds(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.images', '--quick']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / 'runs' / 'benchmarks' / 'images.json').read_text())
    assert [row['ticks'] for row in found['rows']] == [20, 20] and 'machine' in found
    holds = {bar['name']: bar['holds'] for bar in found['bars']}
    assert len(holds) == 5
    assert all(held for name, held in holds.items() if 'time' not in name), holds
