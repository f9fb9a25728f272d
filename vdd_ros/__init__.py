"""Variational Diffusion Distillation for ROS 2: from demonstrations to a mixture-of-experts policy.

The Python API works on arrays: it needs no robot, no topics and no ROS installation. A `Contract` defines the sizes of
observations and actions, and the numbers of time steps in a window and in an action chunk. An `Episode` is one
demonstration. `Demonstrations` are the windows on which a policy is trained.

>>> import vdd_ros
>>> contract = vdd_ros.Contract.of_arrays(4, 2, observation_horizon=2, prediction_horizon=8)
>>> contract.observation_size, contract.action_size
(4, 2)

From arrays to a policy, and its use::

    episodes = [vdd_ros.Episode(observation, action), ...]  # arrays of shape (time, 4) and (time, 2)
    demonstrations = vdd_ros.Demonstrations.from_episodes(episodes, contract)
    vdd_ros.train_teacher(demonstrations, 'runs/teacher')  # a diffusion policy
    vdd_ros.distill(demonstrations, 'runs/teacher', 'runs/student')  # a mixture of experts
    policy = vdd_ros.load_policy('runs/student')  # numpy and onnxruntime; torch is not loaded
    chunk = policy.act(window, generator)  # (2, 4) -> (8, 2)

=======================================  ====================================================================
`Contract`, `load_contract`              shapes, rates and, for a robot, the topics of observations and actions
`Episode`, `Demonstrations`              demonstrations as arrays; `windows_of`, `windows_from` cut or check windows
`load_bag`, `load_demonstrations`        episodes, or complete training data, from rosbags
`train_teacher`, `distill`, `fit_em`     three training methods; `LearningSettings`, `load_settings` configure them
`evaluate`                               likelihood, calibration and energy score on held-out windows
`load_policy`, `load_artifact`           a trained policy for inference, or its manifest and weights
`ControlLoop`                            safe commands from a policy: `FunctionPolicy`, `Limits`, `Freshness`, ...
=======================================  ====================================================================

Errors are subclasses of `VddError`. Their text contains the expected value, the found value and a remedy. `examples/`
contains programs of 20 to 60 lines.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vdd_ros.common.version import __version__ as __version__

if TYPE_CHECKING:
    from vdd_ros.common.errors import VddError
    from vdd_ros.contract.contract import Contract, load_contract
    from vdd_ros.control.control_loop import ControlLoop
    from vdd_ros.control.control_output import Command, Hold, Stop
    from vdd_ros.control.deployment import Deployment, load_deployment
    from vdd_ros.control.execution import Execution
    from vdd_ros.control.freshness import Freshness
    from vdd_ros.control.limits import Limits
    from vdd_ros.data.demonstrations import load_bag, load_demonstrations
    from vdd_ros.data.episode import Episode
    from vdd_ros.data.windows import Demonstrations, WindowArrays, windows_from, windows_of
    from vdd_ros.learning.jobs import distill, evaluate, fit_em, train_teacher
    from vdd_ros.learning.learning_settings import LearningSettings, load_settings
    from vdd_ros.policy.artifact import Artifact, load_artifact
    from vdd_ros.policy.experts import Experts
    from vdd_ros.policy.function import FunctionPolicy
    from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy, load_policy
    from vdd_ros.policy.routing import Routing

# Where each name is defined. Modules are imported when a name is first used: torch with the first training function,
# the bag reader with the first function that reads bags.
_MODULES = {
    'common.errors': ('VddError',),
    'contract.contract': ('Contract', 'load_contract'),
    'control.control_loop': ('ControlLoop',),
    'control.control_output': ('Command', 'Hold', 'Stop'),
    'control.deployment': ('Deployment', 'load_deployment'),
    'control.execution': ('Execution',),
    'control.freshness': ('Freshness',),
    'control.limits': ('Limits',),
    'data.demonstrations': ('load_bag', 'load_demonstrations'),
    'data.episode': ('Episode',),
    'data.windows': ('Demonstrations', 'WindowArrays', 'windows_from', 'windows_of'),
    'learning.jobs': ('distill', 'evaluate', 'fit_em', 'train_teacher'),
    'learning.learning_settings': ('LearningSettings', 'load_settings'),
    'policy.artifact': ('Artifact', 'load_artifact'),
    'policy.experts': ('Experts',),
    'policy.function': ('FunctionPolicy',),
    'policy.policy': ('DistilledPolicy', 'TeacherPolicy', 'load_policy'),
    'policy.routing': ('Routing',),
}
_WHERE = {name: f'{__name__}.{module}' for module, names in _MODULES.items() for name in names}

__all__ = [
    'Artifact',
    'Command',
    'Contract',
    'ControlLoop',
    'Demonstrations',
    'Deployment',
    'DistilledPolicy',
    'Episode',
    'Execution',
    'Experts',
    'Freshness',
    'FunctionPolicy',
    'Hold',
    'LearningSettings',
    'Limits',
    'Routing',
    'Stop',
    'TeacherPolicy',
    'VddError',
    'WindowArrays',
    'distill',
    'evaluate',
    'fit_em',
    'load_artifact',
    'load_bag',
    'load_contract',
    'load_demonstrations',
    'load_deployment',
    'load_policy',
    'load_settings',
    'train_teacher',
    'windows_from',
    'windows_of',
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _WHERE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(importlib.import_module(_WHERE[name]), name)
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*globals(), *__all__})
