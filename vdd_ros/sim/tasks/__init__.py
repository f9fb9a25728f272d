"""What a policy can be tried on: one folder for each task."""

from __future__ import annotations

import importlib
from pathlib import Path

from vdd_ros.errors import ConfigurationError
from vdd_ros.sim.tasks.task import Demonstrator, Referee, Task, Verdict

__all__ = ['Demonstrator', 'Referee', 'Task', 'Verdict', 'load_task']


def load_task(name: str) -> Task:
    """Return the task of a name: the ``TASK`` that ``vdd_ros.sim.tasks.<name>.task`` defines.

    Raises
    ------
    ConfigurationError
        There is no such task.

    """
    known = sorted(file.parent.name for file in Path(__file__).parent.glob('*/task.py'))
    if name not in known:
        raise ConfigurationError(expected=f'one of the tasks {", ".join(known)}', found=name, remedy='name one of them')
    return importlib.import_module(f'{__name__}.{name}.task').TASK()
