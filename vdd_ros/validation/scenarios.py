"""Scenarios of a validation: nominal, each kind of disturbance, and all disturbances together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.sim.disturbances import Disturbances, read_scenarios, read_yaml
from vdd_ros.sim.tasks import Task
from vdd_ros.validation.report_file import OVER_ROS

NOMINAL, EVERYTHING = 'nominal', 'everything'
DEPLOYED, SLOW = 'deployed', 'deployed_slow'
"""The nominal scenario with the timing of the deployment, in full and in slow mode."""


def load_scenarios(task: Task, wanted: Sequence[str] = (), file: Path | None = None) -> dict[str, Disturbances]:
    """Return scenarios by name, the nominal one first.

    Parameters
    ----------
    task
        The task. A ``scenarios.yaml`` in the folder of its scene adds scenarios.
    wanted
        Names of the scenarios; by default all.
    file
        YAML file that replaces the shipped scenarios and those of the task: a mapping from names to the fields of
        `Disturbances`.

    Raises
    ------
    ConfigurationError
        A file is missing or malformed, or a scenario does not exist.

    """
    entries: dict[str, Any] = {
        NOMINAL: {},
        **(read_scenarios(task.scenarios_beside) if file is None else read_yaml(file)),
    }
    strange = [name for name in wanted if name not in entries]
    if strange:
        raise ConfigurationError(
            expected=f'some of the scenarios {", ".join(entries)}', found=strange[0], remedy='use these names'
        )
    # The scenario with all disturbances comes last, regardless of the order of the file.
    names = wanted or sorted(entries, key=lambda name: name == EVERYTHING)
    return {name: Disturbances.parse(entries[name] or {}) for name in names}


def over_ros(scenario: str) -> str:
    """Return the name that a scenario over ROS in real time has in a report."""
    return OVER_ROS if scenario == NOMINAL else f'{OVER_ROS}_{scenario}'


def described(disturbances: Disturbances) -> str:
    """Describe disturbances in words, for reports."""
    entries = dict(_entries(disturbances.model_dump(exclude_defaults=True)))
    if {'joint_states', 'commands'} < entries.keys():
        return f'{", ".join(_words(name) for name in entries)}: all at once'
    return '; '.join(f'{_words(name)}: {text}' for name, text in entries.items()) or 'no disturbances'


def _entries(changed: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stream in ('joint_states', 'commands'):
        if stream in changed:
            values = changed[stream].items()
            yield stream, ', '.join(f'{_words(name)} {value:g}{_UNITS[name]}' for name, value in values)
    for sensor, values in changed.get('sensors', {}).items():
        yield sensor, ', '.join(f'{_words(name)} {value}' for name, value in values.items())
    for name, values in changed.get('randomization', {}).items():
        if name == 'objects':
            yield 'displaced', ', '.join(item['body'] for item in values)
        elif 'between' in values:
            yield name, 'x {:g} to {:g}'.format(*values['between'])
        else:
            yield name, ', '.join(f'{_words(key)} {value}' for key, value in values.items())


_UNITS = {
    'latency': ' s',
    'jitter': ' s',
    'drop': ' of messages',
    'position_noise': ' rad',
    'velocity_noise': ' rad/s',
    'effort_noise': ' N m',
}


def _words(name: str) -> str:
    return name.replace('_', ' ')
