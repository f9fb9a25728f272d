"""The folder of a training: what it was given, how it goes, and how it ended.

run.json                  step, settings, data, revision, environment, status, and in the end figures and verdict
curves.json               all that was reported, by name; `iteration` holds the places
curves.png                the same, drawn
events.out.tfevents.*     the same, for TensorBoard, while it goes on
checkpoint.safetensors    to go on from, until the artifact is written
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
    """Return the folder of the training that makes an artifact, which lies beside it."""
    return output.with_name(f'{output.name}.run')


def checkpoint_path(output: Path) -> Path:
    """Return where the checkpoint of an unfinished artifact is kept."""
    return run_path(output) / CHECKPOINT


class Tracker(Protocol):
    """A service that shows runs; one of Weights & Biases and one of MLflow are below."""

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Show metrics of an iteration."""
        ...

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Show the final figures, and end."""
        ...


class Run:
    """The folder of one training, as a context: left by an error, it says `failed`, and `stopped` by a cancellation."""

    def __init__(
        self,
        output: Path,
        step: str,
        facts: Mapping[str, Any],
        *,
        resume: bool = False,
        trackers: Sequence[TrackerName] = (),
    ) -> None:
        """Begin, or go on with the folder that an interrupted training left.

        Parameters
        ----------
        output
            The artifact that is to be written.
        step
            What is done: `teacher`, `student` or `em`.
        facts
            What it is done with, as plain values: settings, contract, data.
        resume
            Go on in the folder that is there. Otherwise one that is there is kept under another name.
        trackers
            Services to report to as well.

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
            # Here and not above: importing it takes as long as all else that the command line needs.
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.path))
        except OSError as error:
            raise OutputError(
                expected=f'a folder for the training at {self.path}',
                found=str(error.strerror or error),
                remedy='make room, or choose another output',
            ) from error
        self._trackers = [_tracker(name, self.path, self._record) for name in trackers]

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Show metrics in TensorBoard and the trackers."""
        for name, value in metrics.items():
            self._events.add_scalar(f'{self._step}/{name}', value, iteration)
        self._events.flush()
        for tracker in self._trackers:
            tracker.log(iteration, metrics)
        self._write()  # a run that is killed knows how long it took

    def finish(
        self, curves: Mapping[str, Sequence[float]], metrics: Mapping[str, float], verdict: Sequence[str] = ()
    ) -> None:
        """Write the curves, draw them, and note how it ended."""
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
        """Let it begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Note how it ended, if it did not finish."""
        self._events.close()
        if self._record['status'] == 'running':
            self._record |= {'status': 'stopped'} if error is None else {'status': 'failed', 'error': str(error)}
            self._write()

    def _write(self) -> None:
        self._record['seconds'] = self._before + time.perf_counter() - self._began
        _write(self.path / RUN, self._record)


def _seconds_of(file: Path) -> float:
    """Return how long the parts of a training took that an unfinished record tells of [s]; 0 if it tells nothing."""
    try:
        return float(json.loads(file.read_text(encoding='utf-8'))['seconds'])
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def _accelerator() -> str:
    """Return the name of the GPU that torch computes on by default; empty if there is none."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ''


def read_runs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the records of all runs in some folders and below, oldest first; each has its `path` and `curves`.

    A folder that is itself a run counts. One without a readable record is no run.
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
    """Return the revision of the running source, with a `+` if it was changed since; empty outside of a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        asked = ['git', '-C', str(folder), *arguments]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if not git('ls-files', Path(__file__).name):
            return ''  # installed into an environment that lies in somebody else's checkout
        return git('rev-parse', '--short=12', 'HEAD') + '+' * bool(git('status', '--porcelain', '-uno', '--', '.'))
    except (OSError, subprocess.SubprocessError):
        return ''


def draw_curves(file: Path, curves: Mapping[str, Sequence[float]]) -> None:
    """Draw curves of a training into a picture, those of one kind into one panel."""
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
            expected=f'{name}, which the settings ask to report to',
            found='it is not installed',
            remedy=f'pip install {name}, or leave it out of `trackers`',
        ) from error


class _WeightsAndBiases:
    """Weights & Biases; where and as whom is up to its own environment variables (WANDB_MODE=offline, ...)."""

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(project='vdd_ros', name=record['name'], dir=str(folder), config=dict(record))

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=iteration)

    def finish(self, metrics: Mapping[str, float]) -> None:
        self._run.summary.update(dict(metrics))
        self._run.finish()


class _MlFlow:
    """MLflow; where is up to its own environment variables (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME)."""

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
