"""The run folder of a training: configuration, progress and results.

run.json                  step, settings, data, revision, environment, status; at the end metrics and verdict
curves.json               all reported metrics by name; `iteration` has the positions
curves.png                the curves
events.out.tfevents.*     the curves for TensorBoard, during training
checkpoint.safetensors    checkpoint, until the artifact is written
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from vdd_ros.common.environment import environment
from vdd_ros.common.errors import ConfigurationError, OutputError

RUN, CURVES, PICTURE, CHECKPOINT = 'run.json', 'curves.json', 'curves.png', 'checkpoint.safetensors'

Status = Literal['running', 'stopped', 'failed', 'finished']
TrackerName = Literal['wandb', 'mlflow']


def run_path(output: Path) -> Path:
    """Return the run folder of an artifact, which lies in the same folder as the artifact."""
    return output.with_name(f'{output.name}.run')


def checkpoint_path(output: Path) -> Path:
    """Return the path of the checkpoint of an unfinished artifact."""
    return run_path(output) / CHECKPOINT


class Tracker(Protocol):
    """An experiment tracker; implementations for Weights & Biases and MLflow are below."""

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of an iteration."""
        ...

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Log the final metrics and end the run."""
        ...


class Run:
    """The folder of one training, as a context manager; its status is `failed` after an error, or `stopped`."""

    def __init__(
        self,
        output: Path,
        step: str,
        facts: Mapping[str, Any],
        *,
        resume: bool = False,
        trackers: Sequence[TrackerName] = (),
    ) -> None:
        """Create the folder, or continue with that of an interrupted training.

        Parameters
        ----------
        output
            The artifact to be written.
        step
            The job: `teacher`, `student` or `em`.
        facts
            Configuration as plain values: settings, contract, data.
        resume
            Continue in the existing folder. Otherwise an existing folder is renamed.
        trackers
            Additional experiment trackers.

        Raises
        ------
        OutputError
            The folder cannot be written.
        ConfigurationError
            A tracker is not installed.

        """
        self.path = run_path(output)
        self._step = step
        try:
            if self.path.exists() and not resume:
                self.path.rename(_free(self.path))
            self.path.mkdir(parents=True, exist_ok=True)
            made = {'step': step, 'name': output.name, 'status': 'running', 'command': sys.argv, **facts}
            self._before = _seconds_of(self.path / RUN) if resume else 0.0
            self._began = time.perf_counter()
            self._record = {**made, 'revision': revision(), 'environment': environment(), 'accelerator': _accelerator()}
            self._write()
            # Imported here because it takes as long as all other imports of the command line.
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.path))
        except OSError as error:
            raise OutputError(
                expected=f'a folder for the training at {self.path}',
                found=str(error.strerror or error),
                remedy='free disk space, or choose another output',
            ) from error
        self._trackers = [_tracker(name, self.path, self._record) for name in trackers]

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Log metrics to TensorBoard and the trackers."""
        for name, value in metrics.items():
            self._events.add_scalar(f'{self._step}/{name}', value, iteration)
        self._events.flush()
        for tracker in self._trackers:
            tracker.log(iteration, metrics)
        self._write()  # a killed run has its duration

    def finish(
        self, curves: Mapping[str, Sequence[float]], metrics: Mapping[str, float], verdict: Sequence[str] = ()
    ) -> None:
        """Write and draw the curves, and store the result."""
        last = int(curves['iteration'][-1]) if curves.get('iteration') else 0
        for name, value in metrics.items():
            self._events.add_scalar(f'final/{name}', value, last)
        _write(self.path / CURVES, dict(curves))
        draw_curves(self.path / PICTURE, curves)
        for tracker in self._trackers:
            tracker.finish(metrics)
        self._record |= {'status': 'finished', 'metrics': dict(metrics), 'verdict': list(verdict)}
        self._write()
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def __enter__(self) -> Run:
        """Start the run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store the status of an unfinished run."""
        self._events.close()
        if self._record['status'] == 'running':
            self._record |= {'status': 'stopped'} if error is None else {'status': 'failed', 'error': str(error)}
            self._write()

    def _write(self) -> None:
        self._record['seconds'] = self._before + time.perf_counter() - self._began
        _write(self.path / RUN, self._record)


def _seconds_of(file: Path) -> float:
    """Return the duration of earlier parts according to an unfinished record [s]; 0 if there is none."""
    try:
        return float(json.loads(file.read_text(encoding='utf-8'))['seconds'])
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def _accelerator() -> str:
    """Return the name of the default GPU of torch; empty if there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ''


def read_runs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the records of all runs in folders and subfolders, oldest first; each has its `path` and `curves`.

    A folder can itself be a run. Folders without a readable record are ignored.
    """
    found: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        for file in sorted(folder.rglob(RUN)):
            try:
                record = json.loads(file.read_text(encoding='utf-8'))
                curves = file.with_name(CURVES)
                record['curves'] = json.loads(curves.read_text(encoding='utf-8')) if curves.exists() else {}
                record['path'] = file.parent
                found[file.parent.resolve()] = record
            except (OSError, ValueError, TypeError):
                continue
    return sorted(found.values(), key=lambda record: record.get('environment', {}).get('created', ''))


def revision() -> str:
    """Return the git revision of the source, with a `+` if the checkout has changes; empty outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if not git('ls-files', Path(__file__).name):
            return ''  # installed in an environment within another repository
        return git('rev-parse', '--short=12', 'HEAD') + '+' * bool(git('status', '--porcelain', '-uno', '--', '.'))
    except (OSError, subprocess.SubprocessError):
        return ''


def draw_curves(file: Path, curves: Mapping[str, Sequence[float]]) -> None:
    """Draw the curves of a training into an image file, with one panel for each kind of metric."""
    from matplotlib.figure import Figure

    names = [name for name in curves if name != 'iteration']
    if not names:
        return
    panels: dict[str, list[str]] = {}
    for name in names:
        panels.setdefault(_kind(name), []).append(name)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, axis in zip(panels.values(), axes):
        for name in panel:
            axis.plot(curves['iteration'], curves[name], label=name.replace('_', ' '))
        axis.legend(fontsize='small')
        axis.set_xlabel('update')
        axis.grid(alpha=0.3)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    _save(figure, file)


def draw_runs(file: Path, runs: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    """Draw curves of several runs into an image file: a panel for each metric, and a line for each run that has it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * max(1, len(names)), 3.6), layout='constrained')
    for name, axis in zip(names, figure.subplots(1, max(1, len(names)), squeeze=False)[0]):
        for label, run in runs.items():
            if name in run['curves']:
                axis.plot(run['curves']['iteration'], run['curves'][name], label=label)
        axis.set_xlabel('update')
        axis.set_ylabel(name.replace('_', ' '))
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize='small')
    file.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    """Write a picture: aside first, and then renamed."""
    aside = file.with_name(f'{file.name}.part')
    figure.savefig(aside, format='png', dpi=110)
    aside.replace(file)


def _kind(name: str) -> str:
    for kind in ('log_likelihood', 'loss', 'calibration', 'energy'):
        if kind in name:
            return kind
    return name


def _free(path: Path) -> Path:
    number = 1
    while (place := path.with_name(f'{path.name}.{number}')).exists():
        number += 1
    return place


def _write(path: Path, values: Mapping[str, Any]) -> None:
    aside = path.with_name(f'{path.name}.part')
    aside.write_text(json.dumps(values, indent=1, default=str), encoding='utf-8')
    aside.replace(path)


def _tracker(name: TrackerName, folder: Path, record: Mapping[str, Any]) -> Tracker:
    try:
        return {'wandb': _WeightsAndBiases, 'mlflow': _MlFlow}[name](folder, record)
    except ImportError as error:
        raise ConfigurationError(
            expected=f'{name}, a tracker in the settings',
            found='no such package',
            remedy=f'pip install {name}, or remove it from `trackers`',
        ) from error


class _WeightsAndBiases:
    """Weights & Biases, configured by its environment variables (WANDB_MODE=offline, ...)."""

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(project='vdd_ros', name=record['name'], dir=str(folder), config=dict(record))

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=iteration)

    def finish(self, metrics: Mapping[str, float]) -> None:
        self._run.summary.update(dict(metrics))
        self._run.finish()


class _MlFlow:
    """MLflow, configured by its environment variables (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME)."""

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        self._mlflow = mlflow
        mlflow.start_run(run_name=record['name'], tags={'folder': str(folder), 'revision': str(record['revision'])})
        mlflow.log_dict(json.loads(json.dumps(record, default=str)), RUN)

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(metrics), step=iteration)

    def finish(self, metrics: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({f'final_{name}': value for name, value in metrics.items()})
        self._mlflow.end_run()
