"""Few demonstrations, as people give them: a goal that lies elsewhere in each, and a hand that never moves alike twice.

Made up, on seven joints: smooth reaches to a goal that is observed, with slow noise of the hand. A network that is
large for them can fit each, and then predicts others badly.
"""

from __future__ import annotations

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations

_JOINTS = 7
_FORGETTING, _TREMOR = 0.95, 0.012
"""Of the hand's noise: what is left of it after a tick, and what each tick adds [rad]."""


def contract() -> Contract:
    """Return what is observed and commanded: joints, their commands and the goal; chunks of eight steps."""
    joints = [f'joint{number + 1}' for number in range(_JOINTS)]
    goal = {'name': 'goal', 'topic': 'goal', 'type': 'Float64MultiArray', 'fields': [f'data[0:{_JOINTS}]']}
    return Contract.model_validate(
        {
            'schema_version': 2,
            'name': 'reaching',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': joints},
            'topics': {'joint_states': 'joint_states', 'commands': 'arm/commands'},
            'policy_rate': 20,
            'observation': [
                {'name': 'measured', 'source': 'measured', 'space': 'joint'},
                {'name': 'commanded', 'source': 'commanded', 'space': 'joint'},
                goal,
            ],
            'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
            'action_mode': 'delta',
            'observation_horizon': 2,
            'observation_stride': 2,
            'prediction_horizon': 8,
            'action_horizon': 4,
            'episodes': {'by': 'bag'},
        }
    )


def demonstrations(seed: int, count: int = 92) -> Demonstrations:
    """Return so many demonstrations, a tenth of them held out."""
    generator = np.random.default_rng(seed)
    return Demonstrations.from_episodes([_episode(generator) for _ in range(count)], contract(), seed=seed)


def _episode(generator: np.random.Generator) -> Episode:
    goal, start = 0.6 * generator.standard_normal(_JOINTS), 0.05 * generator.standard_normal(_JOINTS)
    length = int(generator.integers(90, 150))
    share = np.linspace(0, 1, length)[:, None]
    path = start + (goal - start) * (10 * share**3 - 15 * share**4 + 6 * share**5)
    tremor = np.zeros((length, _JOINTS))
    for tick in range(1, length):
        tremor[tick] = _FORGETTING * tremor[tick - 1] + _TREMOR * generator.standard_normal(_JOINTS)
    commanded = path + tremor * np.sin(np.pi * share)
    step = np.diff(commanded, axis=0, append=commanded[-1:])
    measured = np.concatenate([commanded[:1], commanded[:-1]])
    return Episode(np.hstack([measured, commanded, np.tile(goal, (length, 1))]), step)
