"""Inspect the experts of a student: gating probabilities, means and standard deviations for some observations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

import vdd_ros


def main(artifact: tyro.conf.Positional[Path], steps: int = 9) -> np.ndarray:
    """Vary the first value of the observation, and return the gating, shape (steps, expert).

    Parameters
    ----------
    artifact
        Folder of a student.
    steps
        Number of values, from -1 to 1.

    """
    policy = vdd_ros.load_policy(artifact)
    contract = policy.contract
    windows = np.zeros((steps, contract.observation_horizon, contract.observation_size))
    values = np.linspace(-1, 1, steps)
    windows[:, :, 0] = values[:, None]

    experts = policy.experts(windows)
    gating = np.exp(experts.log_gating)
    deviation = np.sqrt(np.diagonal(policy.covariance(experts), axis1=-2, axis2=-1))
    for row, value in enumerate(values):
        print(f'observation[0] = {value:5.2f}')
        for expert in np.argsort(-gating[row])[:3]:
            mean, spread = experts.mean[row, expert, 0], deviation[row, expert, : contract.action_size]
            print(f'  expert {expert}: probability {gating[row, expert]:.2f}, first action {mean} +- {spread}')
    return gating


if __name__ == '__main__':
    tyro.cli(main)
