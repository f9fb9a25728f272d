"""What a policy can be tried on: one folder for each task."""

from __future__ import annotations

import importlib
from pathlib import Path

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.sim.tasks.task import Demonstrator, SuccessDetector, Task, Verdict

__all__ = ['Demonstrator', 'SuccessDetector', 'Task', 'Verdict', 'load_task', 'task_of']


def load_task(name: str) -> Task:
    """Return the task of a name: the ``TASK`` that ``vdd_ros.sim.tasks.<name>.task`` defines.

    Raises
    ------
    ConfigurationError
        There is no such task.

    """
    known = _known()
    if name not in known:
        raise ConfigurationError(expected=f'one of the tasks {", ".join(known)}', found=name, remedy='name one of them')
    return importlib.import_module(f'{__name__}.{name}.task').TASK()


def task_of(contract: Contract) -> Task | None:
    """Return the task that a contract is of: by its name (avoiding for avoiding_joint) and by its robot; or None."""
    name = contract.name.partition('_')[0]
    if name not in _known():
        return None
    task = load_task(name)
    own = load_contract(task.contract)
    same = (own.robot.model, sorted(own.joints)) == (contract.robot.model, sorted(contract.joints))
    return task if same else None


def _known() -> list[str]:
    return sorted(file.parent.name for file in Path(__file__).parent.glob('*/task.py'))
