"""The benchmark of exports finds what is wrong with one, with the reader of this package where there is no LeRobot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.lerobot_exports import SOURCES, compared, measure

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('source', SOURCES, ids=lambda source: source.name)
def test_exports_hold_what_was_recorded(source, tmp_path):
    found = [(row, bars) for row, bars in measure(source, tmp_path / 'it', ())]
    assert [row['export'] for row, _ in found] == ['png', 'h264', 'av1']
    for row, bars in found:
        assert row['frames'] == len(source.episode) and row['episodes'] == 4
        assert len(bars) == 4 and all(bar.holds for bar in bars), bars


def test_a_wrong_number_a_wrong_task_and_an_exchanged_picture_are_counted():
    source = SOURCES[1]
    frames = np.arange(len(source.episode))
    last = np.array([np.flatnonzero(source.part == number).max() for number in source.part])
    chunks = frames[:, None] + np.arange(3)
    state, action = source.numbers.astype(np.float32).transpose(1, 0, 2)
    right = {
        'observation.state': state.copy(),
        'action': action[np.minimum(chunks, last[:, None])],
        'action_is_pad': chunks > last[:, None],
        'timestamp': source.place / source.rate,
        'episode_index': source.part,
        'task': np.array(source.tasks),
        'observation.images.top': np.stack([source.picture('top', n).transpose(2, 0, 1) / 255 for n in frames]),
        'stats/action/mean': source.numbers[:, 1].mean(axis=0),
    }
    row = compared(source, right)
    assert (row['wrong'], row['misplaced']) == (0, 0) and row['picture_error'] < 1e-9 and row['mean_error'] < 1e-9
    right['observation.state'][3, 2] += 1e-6
    right['task'][20] = 'another'
    right['observation.images.top'][[4, 5]] = right['observation.images.top'][[5, 4]]
    row = compared(source, right)
    assert (row['wrong'], row['misplaced']) == (2, 2)
    assert compared(source, {'timestamp': np.zeros(5)})['wrong'] == len(frames)


def test_a_python_without_lerobot_is_left_out(tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, '-m', 'benchmarks.lerobot_exports', '--check', '--python', '/bin/false']
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {'PYTHONPATH': path}, capture_output=True, text=True)
    assert done.returncode == 1 and 'left out: /bin/false has no lerobot' in done.stdout
