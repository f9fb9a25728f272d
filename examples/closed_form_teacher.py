"""A density with a known score as the teacher: no diffusion model is trained.

The actions have two Gaussian modes at -m(s) and m(s), where m depends on the observation s. The score of this mixture
with added noise has a closed form. Any other function with this signature can be used, such as a network from another
library.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro

import vdd_ros

CONTRACT = vdd_ros.Contract.of_arrays(1, 2, name='two_modes')
STD = 0.1


def modes(observation: torch.Tensor) -> torch.Tensor:
    """Return the centres of the two modes, shape (2, batch, 1, 2), for windows of shape (batch, 1, 1)."""
    centre = torch.cat([torch.ones_like(observation), observation], dim=-1)
    return torch.stack([-centre, centre])


def score(action: torch.Tensor, noise: torch.Tensor, observation: torch.Tensor) -> torch.Tensor:
    """Return d log p / d action for actions of shape (..., batch, step, 2) with added `noise`."""
    variance = STD**2 + noise**2
    away = modes(observation).unflatten(0, (2, *[1] * (action.ndim - 3))) - action
    share = (-0.5 * (away**2 / variance).sum(dim=-1, keepdim=True)).softmax(dim=0)
    return (share * away / variance).sum(dim=0)


def main(output: tyro.conf.Positional[Path], updates: int = 2000, samples: int = 5000) -> vdd_ros.Experts:
    """Distil the score into a student, and return its experts at s = 0.5.

    Parameters
    ----------
    output
        Folder of the student's artifact.
    updates
        Number of updates of the student.
    samples
        Number of actions sampled from the density, for windows and coverage.

    """
    generator = torch.Generator().manual_seed(0)
    observation = 2 * torch.rand(samples, 1, 1, generator=generator) - 1
    side = torch.randint(2, (samples,), generator=generator)
    action = modes(observation)[side, torch.arange(samples)] + STD * torch.randn(samples, 1, 2, generator=generator)
    demonstrations = vdd_ros.Demonstrations.from_windows(observation.numpy(), action.numpy(), CONTRACT)
    settings = vdd_ros.LearningSettings().changed([f'distillation.iterations={updates}', 'student.experts=4'])
    vdd_ros.distill(demonstrations, score, output, settings)
    return vdd_ros.load_policy(output).experts(np.array([[[0.5]]]))


if __name__ == '__main__':
    experts = tyro.cli(main)
    for gating, mean in zip(np.exp(experts.log_gating[0]), experts.mean[0]):
        print(f'probability {gating:.2f}, mean {mean.round(2).tolist()}; the modes are [-1, -0.5] and [1, 0.5]')
