"""Training of a teacher, and its distillation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdd_ros.commands.reading import ReadsBags
from vdd_ros.commands.say import out, say
from vdd_ros.commands.settings import LearningOptions
from vdd_ros.common.console import Bars, Interruption
from vdd_ros.common.output import claim_output


@dataclass(frozen=True)
class TrainTeacher(ReadsBags, LearningOptions):
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
                say(f'left out: {line}')
            if hidden := undisplaced(demonstrations.contract, settings.augmentation_of('teacher')):
                say(f'not displaced by the augmentation, as the observation does not show it: {", ".join(hidden)}')
            artifact = train_teacher(
                demonstrations, self.output, settings, bars, resume=self.resume, cancelled=interruption
            )
            if artifact is None:
                say('stopped; go on with the same command and --resume')
                return
        say(f'wrote the teacher {self.output} ({artifact.hash[:12]})')


@dataclass(frozen=True)
class Distill(ReadsBags, LearningOptions):
    """Distill a teacher into a student, a mixture of experts with one network call.

    The next step is `vdd validate`. Ctrl-C saves a checkpoint; --resume continues from it.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags of the teacher's training."""
    teacher: Path
    """The teacher's artifact."""
    output: Path
    """The artifact to write: a folder that does not exist yet."""
    compare: Literal['em'] | None = None
    """`em`: also train the same network by likelihood alone, into OUTPUT.em, and compare the student with it."""
    simulate: str | None = None
    """A task to simulate (avoiding, placing): both policies act in it, and the teacher labels the visited windows."""
    resume: bool = False
    """Continue from the checkpoint of an interrupted run."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.commands.pipeline import distill, load
        from vdd_ros.policy.artifact import load_artifact

        claim_output(self.output)
        contract = load_artifact(self.teacher, kind='teacher').manifest.contract
        settings = self.chosen(contract)
        simulator = None
        if self.simulate is not None:
            from vdd_ros.sim.tasks import load_task
            from vdd_ros.validation.visits import TaskSimulator

            simulator = TaskSimulator(load_task(self.simulate), contract)
        with Bars(out) as bars, Interruption() as interruption:
            demonstrations = load(self.bags, contract, settings, bars)
            artifact = distill(
                demonstrations,
                self.teacher,
                self.output,
                settings,
                bars,
                compare=self.compare,
                simulator=simulator,
                resume=self.resume,
                cancelled=interruption,
            )
            if artifact is None:
                say('stopped; go on with the same command and --resume')
                return
        say(f'wrote the student {self.output} ({artifact.hash[:12]})')
        for sentence in artifact.manifest.verdict:
            say(sentence)
