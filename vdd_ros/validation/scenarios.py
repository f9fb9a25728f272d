"""The worlds in which a policy is tried: nominal, each kind of disturbances, and all of it together."""

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
"""The nominal world in the timing of the deployment, in full and in slow mode."""


def load_scenarios(task: Task, wanted: Sequence[str] = (), file: Path | None = None) -> dict[str, Disturbances]:
    """Return scenarios by name, the nominal one first.

    Parameters
    ----------
    task
        May have scenarios of its own in ``scenarios.yaml`` beside its scene.
    wanted
        Names; by default all.
    file
        YAML that takes the place of those that ship: a mapping of names to the fields of `Disturbances`.

    Raises
    ------
    ConfigurationError
        A file is absent or malformed, or there is no scenario of a name.

    """
    entries: dict[str, Any] = {NOMINAL: {}, **(read_scenarios(task.scene) if file is None else read_yaml(file))}
    strange = [name for name in wanted if name not in entries]
    if strange:
        raise ConfigurationError(
            expected=f'some of the scenarios {", ".join(entries)}', found=strange[0], remedy='name them as they are'
        )
    # What is all the others at once comes after them, wherever its file has it.
    names = wanted or sorted(entries, key=lambda name: name == EVERYTHING)
    return {name: Disturbances.parse(entries[name] or {}) for name in names}


def over_ros(scenario: str) -> str:
    """Return under which name a report has what a scenario came to over ROS in real time."""
    return OVER_ROS if scenario == NOMINAL else f'{OVER_ROS}_{scenario}'


def described(disturbances: Disturbances) -> str:
    """Return what is made worse, in words; for a person who reads a report."""
    entries = dict(_entries(disturbances.model_dump(exclude_defaults=True)))
    if {'joint_states', 'commands'} < entries.keys():
        return f'{", ".join(_words(name) for name in entries)}: all at once'
    return '; '.join(f'{_words(name)}: {text}' for name, text in entries.items()) or 'as in the model'


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
    'drop': ' of them',
    'position_noise': ' rad',
    'velocity_noise': ' rad/s',
    'effort_noise': ' N m',
}


def _words(name: str) -> str:
    return name.replace('_', ' ')
