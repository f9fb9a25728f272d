"""Comparison of trainings: their data, settings and results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vdd_ros.commands.echo import echo, out
from vdd_ros.common.console import table
from vdd_ros.common.errors import ConfigurationError

_METRICS = ('held_out_log_likelihood', 'held_out_loss', 'energy_score', 'calibration_50', 'calibration_90', 'experts')
"""Metrics that are shown by default, if runs have them."""


@dataclass(frozen=True)
class Runs:
    """List the trainings in some folders, and compare them.

    Every training writes a folder OUTPUT.run next to its artifact OUTPUT. Folders are searched recursively.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path(),)
    """Run folders, or folders that contain run folders."""
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(aliases=('--figures',))] = ()
    """Metrics to show, by name; by default those that compare policies. `--figures` is the deprecated name of this
    option."""
    step: str = ''
    """Only runs of this kind: teacher, student or em."""
    compare: bool = False
    """Also list the settings, revisions and data in which the runs differ."""
    picture: Path | None = None
    """Also draw the curves of all runs into this PNG file, with one panel for each metric."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.learning.runs import draw_runs, read_runs

        found = [run for run in read_runs(self.folders) if self.step in ('', run['step'])]
        if not found:
            raise ConfigurationError(
                expected=f'the folder of a training (OUTPUT.run) in {", ".join(map(str, self.folders))}',
                found='none' + f' of the kind {self.step}' * bool(self.step),
                remedy='name folders that hold some; vdd train-teacher and vdd distill write them',
            )
        names = names_of(found)
        metrics = self.metrics or tuple(name for name in _METRICS if any(name in results(run) for run in found))
        listed = table('', 'run', 'step', 'status', 'updates', 'minutes', *metrics, texts=('step', 'status'))
        for name, run in zip(names, found):
            listed.add_row(name, *_facts(run), *(_number(results(run).get(metric)) for metric in metrics))
        out.print(listed)
        if self.compare:
            self._show_differences(found, names)
        if self.picture is not None:
            draw_runs(self.picture, dict(zip(names, found)), metrics)
            echo(f'drew {self.picture}')

    def _show_differences(self, found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
        differing = table('differences', 'setting', *names, texts=names)
        for key, values in differences(found):
            differing.add_row(key, *values)
        if differing.row_count:
            out.print(differing)
        else:
            echo('no differences in settings, revision, data or devices')


def names_of(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a distinct name for each run: the shortest distinct end of its path."""
    paths = [run['path'].absolute().parts for run in runs]
    for length in range(1, 1 + max(map(len, paths))):
        names = ['/'.join(parts[-length:]).removesuffix('.run') for parts in paths]
        if len(set(names)) == len(names):
            break
    return names


def results(run: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the metrics of a run: the final values, or the last reported values of an unfinished run."""
    return run.get('metrics') or {name: values[-1] for name, values in run['curves'].items() if values}


def differences(runs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each setting, revision or data entry that differs between runs, and its value in each run."""
    given = [{**_flat(run.get('settings', {})), **_flat({key: run.get(key) for key in _GIVEN})} for run in runs]
    for key in dict.fromkeys(key for each in given for key in each):
        values = [str(each.get(key, '')) for each in given]
        if len(set(values)) > 1:
            yield key, values


_GIVEN = ('revision', 'contract', 'data', 'devices', 'accelerator')


def _flat(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return values of nested mappings by names with dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f'{prefix}{key}.')
        else:
            found[f'{prefix}{key}'] = value
    return found


def _facts(run: Mapping[str, Any]) -> tuple[str, ...]:
    places = run['curves'].get('iteration') or [0]
    return run['step'], run['status'], f'{places[-1]:.0f}', f'{run.get("seconds", 0.0) / 60:.1f}'


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.4g}'
