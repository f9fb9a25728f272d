"""Hyperparameter search: trainings with settings proposed by Optuna, in one sweep folder, resumable at any time.

sweep.db      all trials, as Optuna keeps them (SQLite): optuna-dashboard shows it
trial-N       the artifact of a trial; its run folder is trial-N.run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vdd_ros.common.errors import ConfigurationError, OutputError, TrainingError
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.learning.runs import run_path
from vdd_ros.policy.artifact import Artifact, load_artifact

if TYPE_CHECKING:
    from optuna import Study  # pyright: ignore[reportMissingImports]
    from optuna.distributions import BaseDistribution  # pyright: ignore[reportMissingImports]

STORE = 'sweep.db'

Train = Callable[[LearningSettings, Path, bool], 'Artifact | None']
"""`(settings, output, resume) -> artifact`, None if cancelled; called for each trial, to train it."""


@dataclass(frozen=True)
class Objective:
    """The metric that a sweep optimises, and the direction."""

    metric: str
    """Name of a metric in the artifact's manifest."""
    maximise: bool
    """Whether higher values are better."""


@dataclass(frozen=True)
class TrialResult:
    """A completed trial of a sweep: its settings, the value of the metric, and its artifact."""

    number: int
    values: Mapping[str, Any]
    """Values of the varied settings, by name."""
    value: float
    """Value of the metric that the sweep optimises."""
    path: Path
    """Path of the artifact."""


def distributions_of(variations: Sequence[str]) -> dict[str, BaseDistribution]:
    """Parse the variations of settings.

    Parameters
    ----------
    variations
        One text for each setting. ``NAME=LOW:HIGH``: uniform between two numbers; integers if both numbers are.
        ``NAME=LOW:HIGH:log``: uniform in the logarithm. ``NAME=A,B,C``: one of the listed YAML values.

    Raises
    ------
    ConfigurationError
        A variation is malformed, or Optuna is missing.

    """
    optuna = _optuna()
    found: dict[str, BaseDistribution] = {}
    for variation in variations:
        name, _, text = variation.partition('=')
        try:
            low, colon, rest = text.partition(':')
            if not colon:
                found[name] = optuna.distributions.CategoricalDistribution(yaml.safe_load(f'[{text}]'))
                continue
            high, _, scale = rest.partition(':')
            bounds = yaml.safe_load(f'[{low}, {high}]')
            if scale not in ('', 'log') or not all(type(bound) in (int, float) for bound in bounds):
                raise ValueError(f'bounds {low} and {high}, scale {scale!r}')
            whole = all(type(bound) is int for bound in bounds)
            kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
            found[name] = kind(*bounds, log=scale == 'log')
        except (ValueError, TypeError, yaml.YAMLError) as error:
            raise ConfigurationError(
                expected='NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C',
                found=f'{variation} ({" ".join(str(error).split())})',
                remedy='write numbers as 0.001 or 1.0e-3; `vdd settings` lists the names',
            ) from error
    return found


def sweep(
    output: Path,
    settings: LearningSettings,
    variations: Sequence[str],
    trials: int,
    objective: Objective,
    train: Train,
    *,
    resume: bool = False,
) -> list[TrialResult] | None:
    """Train with settings proposed by Optuna until ``trials`` trials are complete; return None if cancelled.

    Parameters
    ----------
    output
        Folder of the sweep.
    settings
        Values of the settings that are not varied. Their seed is also the seed of the proposals.
    variations
        As for `distributions_of`.
    trials
        Number of trials to complete, including those completed before an interruption.
    objective
        Metric to optimise.
    train
        Called for each trial with its settings, its output folder and whether to resume; trains, and returns the
        artifact, or None if the training was cancelled.
    resume
        Continue the sweep in the folder. An interrupted trial is completed first, from its checkpoint.

    Returns
    -------
    The completed trials, best first. Failed trials are recorded as failed, and left out.

    Raises
    ------
    ConfigurationError
        A variation or the value of a setting is invalid, or there is no sweep to resume.
    OutputError
        The folder already contains a sweep.

    """
    space, states = distributions_of(variations), _optuna().trial.TrialState
    study = _study(output, settings.seed, objective, resume)
    while len(study.get_trials(states=(states.COMPLETE, states.FAIL))) < trials:
        begun = study.get_trials(states=(states.RUNNING,))
        trial = begun[0] if begun else study.ask(space)
        folder = output / f'trial-{trial.number}'
        chosen = settings.changed([f'{name}={_yaml(value)}' for name, value in trial.params.items()])
        try:
            # It may have been interrupted after its artifact was written.
            made = load_artifact(folder) if folder.exists() else train(chosen, folder, run_path(folder).exists())
        except TrainingError:
            study.tell(trial.number, state=states.FAIL)
            continue
        if made is None:
            return None
        study.tell(trial.number, _value(made, objective))
    complete = study.get_trials(states=(states.COMPLETE,))
    found = [TrialResult(each.number, each.params, each.value, output / f'trial-{each.number}') for each in complete]
    return sorted(found, key=lambda outcome: outcome.value, reverse=objective.maximise)


def _study(output: Path, seed: int, objective: Objective, resume: bool) -> Study:
    """Create the study of a folder, or load it."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    store = output / STORE
    if store.exists() and not resume:
        raise OutputError(
            expected=f'no sweep in {output}',
            found=STORE,
            remedy='go on with it by --resume, or choose another folder',
        )
    if resume and not store.exists():
        raise ConfigurationError(
            expected=f'a sweep to resume in {output}', found='none', remedy='start afresh, without --resume'
        )
    output.mkdir(parents=True, exist_ok=True)
    address = f'sqlite:///{store}'
    known = len(optuna.get_all_study_names(storage=address))
    # Each start proposes by another seed: proposals of an equal one would be those of before.
    number = 0
    if known:
        number = len(optuna.load_study(study_name=None, storage=address).trials)
    return optuna.create_study(
        storage=address,
        study_name='sweep',
        direction='maximize' if objective.maximise else 'minimize',
        sampler=optuna.samplers.TPESampler(seed=seed + number),
        load_if_exists=True,
    )


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).partition('\n')[0]


def _value(artifact: Artifact, objective: Objective) -> float:
    metrics = artifact.manifest.metrics
    if objective.metric not in metrics:
        raise ConfigurationError(
            expected=f'a metric of {artifact.manifest.kind}s',
            found=objective.metric,
            remedy=f'choose one of {", ".join(sorted(metrics))}',
        )
    return metrics[objective.metric]


def _optuna() -> Any:
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigurationError(
            expected='Optuna, which proposes settings',
            found='it is not installed',
            remedy="python -m pip install 'vdd_ros[sweep]'",
        ) from error
    return optuna
