"""Load a policy and act on windows: numpy in, action chunks out. torch is not imported.

Run `examples/arrays_to_student.py` first, or give any other artifact.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

import vdd_ros


def main(artifact: tyro.conf.Positional[Path], seed: int = 0) -> np.ndarray:
    """Act on one window and on many, and return the chunks for many.

    Parameters
    ----------
    artifact
        Folder of a student.
    seed
        Random seed for experts and actions.

    """
    policy = vdd_ros.load_policy(artifact)
    contract = policy.contract
    window = np.zeros((contract.observation_horizon, contract.observation_size))

    print('mean of the most probable expert:', policy.act(window).round(3).tolist())
    generator = np.random.default_rng(seed)
    print('a sample:                    ', policy.act(window, generator).round(3).tolist())

    windows = np.tile(window, (1000, 1, 1))
    chunks = policy.act(windows, generator)
    first = chunks[:, 0]
    print(f'first actions of {len(chunks)} samples: mean {first.mean(axis=0)}, deviation {first.std(axis=0)}')
    print(f'mean log-density of the samples: {policy.log_prob(windows, chunks).mean():.2f} nat')
    return chunks


if __name__ == '__main__':
    tyro.cli(main)
