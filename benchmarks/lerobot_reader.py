"""Reads a LeRobot dataset by LeRobot itself: the part of `benchmarks.lerobot_exports` that runs in its environment.

`python lerobot_reader.py DATASET DECODER OUTPUT.npz` needs lerobot and nothing of this package. It writes every frame
as `LeRobotDataset` returns it, and prints the release of lerobot.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata

import numpy as np

CHUNK = 3
"""Actions in a chunk that is asked for by time."""


def main(path: str, decoder: str, output: str) -> None:
    """Read all frames of a dataset; pictures in [0, 1], shape (frame, 3, height, width)."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    fps = LeRobotDataset('local/export', root=path, video_backend=decoder).meta.fps
    times = {'action': [number / fps for number in range(CHUNK)]}
    dataset = LeRobotDataset('local/export', root=path, video_backend=decoder, delta_timestamps=times)
    frames = [dataset[number] for number in range(len(dataset))]
    found = {}
    for key in frames[0]:
        values = [frame[key] for frame in frames]
        found[key] = np.array(values) if key == 'task' else np.stack([np.asarray(value) for value in values])
    for key, parts in dataset.meta.stats.items():
        found |= {f'stats/{key}/{name}': np.asarray(value) for name, value in parts.items()}
    np.savez(output, **found)
    told = {'lerobot': metadata.version('lerobot'), 'episodes': dataset.num_episodes, 'fps': fps}
    print(json.dumps(told))


if __name__ == '__main__':
    main(*sys.argv[1:])
