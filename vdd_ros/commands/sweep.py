"""Hyperparameter search for a teacher or a student."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vdd_ros.commands.echo import echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.settings import LearningOptions
from vdd_ros.common.console import Bars, Interruption, table

if TYPE_CHECKING:
    from vdd_ros.learning.learning_settings import LearningSettings
    from vdd_ros.policy.artifact import Artifact


@dataclass(frozen=True)
class Sweep(ReadsBags, LearningOptions):
    """Search for the settings of a teacher, or of a student if a teacher is given, with Optuna (the extra `sweep`).

    Every trial is a separate training: trial N writes the artifact OUTPUT/trial-N. Optuna proposes its settings from
    the metrics of the previous trials. Ctrl-C saves a checkpoint; --resume continues with the interrupted trial.
    `vdd runs OUTPUT` compares the trials.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags."""
    output: Path
    """Folder of the sweep."""
    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    """A setting and its values: NAME=LOW:HIGH, NAME=LOW:HIGH:log, or NAME=A,B,C. Can be repeated."""
    teacher: Path | None = None
    """The artifact of the teacher to distill; without a teacher, settings of a teacher are searched for."""
    contract: str = 'avoiding_cartesian'
    """Contract of a sweep over teachers: a YAML file, or the name of a shipped contract."""
    trials: int = 20
    """Total number of trials, including those before an interruption."""
    metric: Annotated[str, tyro.conf.arg(aliases=('--figure',))] = ''
    """Metric to optimise, by its name in `vdd runs`. Default: the energy score of teachers, the held-out log-likelihood
    of students. Metrics in normalised units are only comparable between trials with equal augmentation. `--figure` is
    the deprecated name of this option."""
    maximise: bool = False
    """Whether higher values of `metric` are better; only with a given metric."""
    resume: bool = False
    """Continue the sweep in the folder."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.commands.pipeline import distill, load, train_teacher
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.learning.sweep import Objective, distributions_of, sweep
        from vdd_ros.policy.artifact import load_artifact

        distributions_of(self.vary)  # what cannot be read ends here, before any bag is read
        teacher = self.teacher
        contract = load_contract(self.contract) if teacher is None else load_artifact(teacher).manifest.contract
        settings = self.chosen(contract)
        objective = Objective('energy_score', False) if teacher is None else Objective('held_out_log_likelihood', True)
        if self.metric:
            objective = Objective(self.metric, self.maximise)
        with Interruption() as interruption:
            with Bars(out) as bars:
                demonstrations = load(self.bags, contract, settings, bars)

            def train(chosen: LearningSettings, folder: Path, resume: bool) -> Artifact | None:
                with Bars(out) as bars:
                    how = {'resume': resume, 'cancelled': interruption}
                    if teacher is None:
                        return train_teacher(demonstrations, folder, chosen, bars, **how)
                    return distill(demonstrations, teacher, folder, chosen, bars, **how)

            found = sweep(self.output, settings, self.vary, self.trials, objective, train, resume=self.resume)
            if found is None:
                echo('stopped; go on with the same command and --resume')
                return
        names = [*found[0].values] if found else []
        listed = table('', 'trial', objective.metric, *names, texts=names)
        for outcome in found:
            listed.add_row(f'{outcome.path}', f'{outcome.value:.4g}', *(f'{outcome.values[name]}' for name in names))
        out.print(listed)
