"""Training of a teacher, and its distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdd_ros.commands.echo import echo, out
from vdd_ros.commands.launch import DeviceOptions
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.settings import LearningOptions
from vdd_ros.common.console import Bars, Interruption
from vdd_ros.common.output import claim_output


@dataclass(frozen=True)
class TrainTeacher(ReadsBags, LearningOptions, DeviceOptions):
    """Train the teacher, a diffusion policy, on demonstrations in bags.

    The next step is `vdd distill`. Ctrl-C saves a checkpoint; --resume continues from it.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags."""
    output: Path
    """The artifact to write: a folder that does not exist yet."""
    contract: str = 'avoiding_cartesian'
    """Contract: a YAML file, or the name of one that ships."""
    resume: bool = False
    """Continue from the checkpoint of an interrupted run."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.commands.pipeline import load, train_teacher
        from vdd_ros.contract.contract import load_contract
        from vdd_ros.learning.augmentation import undisplaced

        claim_output(self.output)
        contract = load_contract(self.contract)
        settings = self.chosen(contract)
        with Bars(out) as bars, Interruption() as interruption:
            demonstrations = load(self.bags, contract, settings, bars)
            for line in demonstrations.report.lines():
                echo(f'dropped: {line}')
            if hidden := undisplaced(demonstrations.contract, settings.augmentation_of('teacher')):
                echo(f'not displaced by the augmentation, since it is not observed: {", ".join(hidden)}')
            artifact = train_teacher(
                demonstrations, self.output, settings, bars, resume=self.resume, cancelled=interruption
            )
            if artifact is None:
                echo('stopped; continue with the same command and --resume')
                return
        echo(f'wrote the teacher {self.output} ({artifact.hash[:12]})')


@dataclass(frozen=True)
class Distill(ReadsBags, LearningOptions, DeviceOptions):
    """Distill a teacher into a student, a mixture of experts with one network call.

    The next step is `vdd validate`. Ctrl-C saves a checkpoint; --resume continues from it.

    With --from, the training of teacher and student is continued with further demonstrations: `vdd distill OLD_BAGS
    --add NEW_BAG --from STUDENT`. Experts keep number, name and colour. The command reports which experts moved,
    appeared and disappeared.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags of the teacher's training."""
    teacher: Path
    """The teacher's artifact."""
    output: Path
    """The artifact to write: a folder that does not exist yet."""
    compare: Literal['em'] | None = None
    """`em`: also train the same network by likelihood only, into OUTPUT.em, and compare the student with it."""
    simulate: str | None = None
    """Simulate this task (a name, an entry point, FILE.py or MODULE:ATTRIBUTE): teacher and student act in it, and the
    teacher labels the visited windows."""
    ray: str = ''
    """With --simulate: address of a Ray cluster for the rollouts, HOST:PORT or auto. Needs the extra `ray`."""
    start: Annotated[Path | None, tyro.conf.arg(name='from')] = None
    """Student whose training is continued. The training of the teacher is continued first, and written to
    OUTPUT.teacher."""
    add: tuple[Path, ...] = ()
    """Further bags, with --from."""
    resume: bool = False
    """Continue from the checkpoint of an interrupted run."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.commands.pipeline import distill, learn_on, load
        from vdd_ros.common.errors import ConfigurationError
        from vdd_ros.policy.artifact import load_artifact

        if self.add and self.start is None:
            raise ConfigurationError(
                expected='a student to continue from, with --add', found='none', remedy='name it by --from STUDENT'
            )
        claim_output(self.output)
        contract = load_artifact(self.teacher, kind='teacher').manifest.contract
        settings = self.chosen(contract)
        simulator = None
        if self.simulate is not None:
            from vdd_ros.sim.tasks import load_task
            from vdd_ros.validation.visits import TaskSimulator

            simulator = TaskSimulator(load_task(self.simulate), contract, self.ray)
        with Bars(out) as bars, Interruption() as interruption:
            demonstrations = load((*self.bags, *self.add), contract, settings, bars)
            common = (self.output, settings, bars)
            how = {'compare': self.compare, 'simulator': simulator, 'resume': self.resume, 'cancelled': interruption}
            if self.start is None:
                artifact = distill(demonstrations, self.teacher, *common, **how)
            else:
                artifact = learn_on(demonstrations, self.teacher, self.start, *common, **how)
            if artifact is None:
                echo('stopped; continue with the same command and --resume')
                return
        echo(f'wrote the student {self.output} ({artifact.hash[:12]})')
        for sentence in artifact.manifest.verdict:
            echo(sentence)
