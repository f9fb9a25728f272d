"""Tasks: the shipped tasks, one folder each, and tasks of other packages and files."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from vdd_ros.common.errors import ConfigurationError, VddError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.sim.tasks.scene_task import SceneTask
from vdd_ros.sim.tasks.task import Demonstrator, SuccessDetector, Task, Verdict, located

__all__ = [
    'Demonstrator',
    'SceneTask',
    'SuccessDetector',
    'Task',
    'Verdict',
    'load_task',
    'resolve_task',
    'robot_differs',
    'task_of',
]

GROUP = 'vdd_ros.tasks'
"""Entry point group of packages with tasks."""
ATTRIBUTE = 'TASK'
"""Default attribute of a file or module."""


def load_task(reference: str | Path) -> Task:
    """Load a task.

    Parameters
    ----------
    reference
        The name of a task that ships, the name of an entry point of the group ``vdd_ros.tasks``, a Python file
        (``my_task.py``, ``my_task.py:Reach``), or a module (``my_package.tasks:Reach``). The default attribute of a
        file is ``TASK``. The attribute must be a `Task`, a subclass of `Task`, or a function that returns a task.

    Returns
    -------
    The task. Its `Task.reference` loads it again in another process.

    Raises
    ------
    ConfigurationError
        There is no such task, its file or module raises an error, or the attribute is not a task.

    """
    reference = str(reference)
    if reference in _shipped():
        task = import_module(f'{__name__}.{reference}.task').TASK()
        task.reference = reference
        return task
    found = {point.name: point for point in _offered()}
    if reference in found:
        place, source = f'the entry point {reference}', found[reference].load
    elif (file := _file_of(reference)) is not None:
        path, attribute = file
        place, reference = f'{attribute} in {path}', f'{path}:{attribute}'
        source = partial(_attribute, partial(_module_of, path), attribute)
    elif ':' in reference:
        module, _, attribute = reference.partition(':')
        place, source = f'{attribute} in {module}', partial(_attribute, partial(import_module, module), attribute)
    else:
        known = ', '.join([*_shipped(), *sorted(found)])
        raise ConfigurationError(
            expected=f'a task: one of {known}, a file TASK.py, or MODULE:ATTRIBUTE',
            found=reference,
            remedy='give the path of the file; docs/tutorials/your_task.md shows how to write one',
        )
    task = _built(source, place)
    task.reference = reference
    return task


def task_of(contract: Contract) -> Task | None:
    """Return the task of a contract, or None.

    A task matches if the name of the contract begins with the name of the task (avoiding for avoiding_joint), and if
    both have the same robot. A task with exactly the name of the contract has priority. Shipped tasks and tasks of
    entry points are considered.
    """
    names = [*_shipped(), *(point.name for point in _offered())]
    matching = [name for name in names if contract.name == name or contract.name.startswith(f'{name}_')]
    for name in sorted(matching, key=lambda name: (name != contract.name, len(name))):
        task = load_task(name)
        own = load_contract(task.contract)
        if (own.robot.model, sorted(own.joints)) == (contract.robot.model, sorted(contract.joints)):
            return task
    return None


def resolve_task(reference: str, contract: Contract) -> Task:
    """Return the task that an option ``--task`` names, by default the task of a contract.

    Parameters
    ----------
    reference
        As in `load_task`; empty for `task_of` the contract.
    contract
        The contract of the policy that acts in the task.

    Raises
    ------
    ConfigurationError
        There is no such task, the contract has none, or the joints of the task are not those of the contract.

    """
    task = load_task(reference) if reference else task_of(contract)
    if task is None:
        raise ConfigurationError(
            expected=f'a task for the contract {contract.name}',
            found='none with its name and robot among the tasks that ship and the entry points of packages',
            remedy='give a task: --task FILE.py (docs/tutorials/your_task.md)',
        )
    remedy = 'give the task of this robot: --task FILE.py (docs/tutorials/your_task.md)'
    if differs := robot_differs(task, contract, remedy):
        raise differs
    return task


def robot_differs(task: Task, contract: Contract, remedy: str) -> ConfigurationError | None:
    """Return an error if the joints of a contract differ from those of a task; otherwise None."""
    if set(contract.joints) == set(task.joints):
        return None
    return ConfigurationError(
        expected=f'a contract of the robot of {task.name}, with the joints {", ".join(task.joints)}',
        found=f'the joints {", ".join(contract.joints)} of {contract.name}',
        remedy=remedy,
    )


def _shipped() -> list[str]:
    return sorted(file.parent.name for file in Path(__file__).parent.glob('*/task.py'))


def _offered() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))


def _file_of(reference: str) -> tuple[Path, str] | None:
    """Return file and attribute that a reference names; None if it names no Python file."""
    path, colon, attribute = reference.rpartition(':')
    if not (colon and path.endswith('.py')):
        path, attribute = reference, ATTRIBUTE
    return (Path(path).expanduser().absolute(), attribute) if path.endswith('.py') else None


def _module_of(file: Path) -> ModuleType:
    """Import a file; files beside it can be imported by it."""
    name = f'_vdd_ros_task_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}'
    if not file.is_file():
        raise FileNotFoundError(f'no such file: {file}')
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(file.parent))
    return module


def _attribute(module: Callable[[], ModuleType], name: str) -> object:
    return getattr(module(), name)


def _built(source: Callable[[], object], place: str) -> Task:
    """Load a task by code of a user, whose errors become one line."""
    try:
        task = source()
        if not isinstance(task, Task) and callable(task):
            task = task()
    except VddError:
        raise
    except Exception as error:
        raise ConfigurationError(
            expected=f'a task: {place}', found=located(error), remedy='correct it, or choose another task'
        ) from error
    if not isinstance(task, Task):
        raise ConfigurationError(
            expected=f'a task: {place}',
            found=f'a {type(task).__name__}',
            remedy='derive the class from vdd_ros.sim.tasks.SceneTask or Task, and set TASK to it',
        )
    return task
