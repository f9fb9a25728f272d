"""The command line: `vdd record`, `vdd train-teacher`, `vdd distill`, `vdd validate`, and all of them as `vdd demo`."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Union

import tyro
from rich.console import Console

from vdd_ros.console import Bars, Interruption
from vdd_ros.errors import VddError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130

_out = Console()
_error = Console(stderr=True, soft_wrap=True)


@dataclass(frozen=True)
class Record:
    """Record scripted demonstrations of a task into one rosbag2.

    Starts the simulated arm (mujoco_bridge), a scripted demonstrator that commands it through ROS, and the recorder.
    Needs rclpy: a ROS installation, or the wheels of the `ros` extra.
    """

    output: Path
    """The bag to write: a folder that does not exist yet."""
    contract: str = 'avoiding_cartesian'
    """The contract whose topics are recorded: a YAML file, or the name of one that ships."""
    task: str = 'avoiding'
    """What is demonstrated."""
    episodes: int = 288
    """Successful demonstrations to record."""
    seed: int = 0
    """Draws the demonstrations."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.pipeline import record

        with Bars(_out) as bars:
            record(
                self.output,
                contract=self.contract,
                task=self.task,
                episodes=self.episodes,
                seed=self.seed,
                logs=_beside(self.output, 'logs'),
                progress=bars,
            )
        _say(f'recorded {self.output}')


@dataclass(frozen=True)
class TrainTeacher:
    """Train the teacher, a diffusion policy, on rosbag demonstrations.

    The next step is `vdd distill`. Ctrl-C saves a checkpoint; --resume goes on from it.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags to learn from."""
    output: Path
    """The artifact to write: a folder that does not exist yet."""
    contract: str = 'avoiding_cartesian'
    """How topics become observations and actions: a YAML file, or the name of one that ships."""
    settings: Path | None = None
    """How to learn: a YAML file; by default the one that ships (config/learning.yaml)."""
    resume: bool = False
    """Go on from the checkpoint that an interrupted run left."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.learning import load_settings
        from vdd_ros.pipeline import load, train_teacher

        settings = load_settings(self.settings)
        with Bars(_out) as bars, Interruption() as interruption:
            demonstrations = load(self.bags, self.contract, settings, bars)
            artifact = train_teacher(
                demonstrations, self.output, settings, bars, resume=self.resume, cancelled=interruption
            )
            if artifact is None:
                _say('stopped; go on with the same command and --resume')
                return
        _say(f'wrote the teacher {self.output} ({artifact.hash[:12]})')


@dataclass(frozen=True)
class Distill:
    """Distil a teacher into the student, a mixture of experts that answers in one network call.

    The next step is `vdd validate`. Ctrl-C saves a checkpoint; --resume goes on from it.
    """

    bags: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The bags that the teacher learned from."""
    teacher: Path
    """The teacher's artifact."""
    output: Path
    """The artifact to write: a folder that does not exist yet."""
    settings: Path | None = None
    """How to learn: a YAML file; by default the one that ships (config/learning.yaml)."""
    resume: bool = False
    """Go on from the checkpoint that an interrupted run left."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.artifact import load_artifact
        from vdd_ros.learning import load_settings
        from vdd_ros.pipeline import distill, load

        settings = load_settings(self.settings)
        contract = load_artifact(self.teacher, kind='teacher').manifest.contract
        with Bars(_out) as bars, Interruption() as interruption:
            demonstrations = load(self.bags, contract, settings, bars)
            artifact = distill(
                demonstrations, self.teacher, self.output, settings, bars, resume=self.resume, cancelled=interruption
            )
            if artifact is None:
                _say('stopped; go on with the same command and --resume')
                return
        _say(f'wrote the student {self.output} ({artifact.hash[:12]})')


@dataclass(frozen=True)
class Validate:
    """Roll a student out in simulation, beside its teacher, and report success, variety and latency."""

    student: Path
    """The student's artifact."""
    teacher: Path
    """The teacher's artifact."""
    output: Path
    """Folder for report.html and report.json; must not hold a report yet."""
    task: str = 'avoiding'
    """What to roll out in."""
    episodes: int = 480
    """Rollouts of each in process."""
    ros_episodes: int = 20
    """Rollouts of the student over ROS, policy and arm in processes of their own; 0 for none."""
    seed: int = 0
    """Draws what the policies leave to chance."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.pipeline import validate

        with Bars(_out) as bars:
            report = validate(
                self.student,
                self.teacher,
                self.output,
                task=self.task,
                episodes=self.episodes,
                ros_episodes=self.ros_episodes,
                seed=self.seed,
                progress=bars,
            )
        _summarize(report, self.output)


@dataclass(frozen=True)
class Demo:
    """All steps in a row on the task that ships: record, train, distil, validate; then look at the report.

    Takes about ten minutes on two cores, without GPU and without a ROS installation.
    """

    output: Path = Path('runs/demo')
    """Folder for everything; must not exist, unless --resume."""
    contract: str = 'avoiding_cartesian'
    """avoiding_cartesian moves the tool point; avoiding_joint commands the joints, which is harder."""
    episodes: int = 288
    """Demonstrations to record."""
    rollouts: int = 480
    """Rollouts of teacher and student in process."""
    ros_episodes: int = 20
    """Rollouts of the student over ROS."""
    settings: Path | None = None
    """How to learn: a YAML file; by default the one that ships (config/learning.yaml)."""
    seed: int = 0
    """Draws the demonstrations and the rollouts."""
    resume: bool = False
    """Keep the steps that are finished, and go on from the first that is not."""

    def run(self) -> None:
        """Do it."""
        from vdd_ros.learning import load_settings
        from vdd_ros.pipeline import demo

        with Bars(_out) as bars:
            report = demo(
                self.output,
                contract=self.contract,
                episodes=self.episodes,
                rollouts=self.rollouts,
                ros_episodes=self.ros_episodes,
                settings=load_settings(self.settings),
                seed=self.seed,
                resume=self.resume,
                progress=bars,
                interruption=Interruption(),
            )
        _summarize(report, self.output)


_Command = Union[
    Annotated[Record, tyro.conf.subcommand('record')],
    Annotated[TrainTeacher, tyro.conf.subcommand('train-teacher')],
    Annotated[Distill, tyro.conf.subcommand('distill')],
    Annotated[Validate, tyro.conf.subcommand('validate')],
    Annotated[Demo, tyro.conf.subcommand('demo')],
]


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return 0, 2 after an error that its one line explains, or 130 after Ctrl-C."""
    command = tyro.cli(
        tyro.conf.OmitArgPrefixes[_Command],
        args=arguments,
        prog='vdd',
        description='From rosbag demonstrations to a mixture of experts that moves an arm.',
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        command.run()
    except VddError as error:
        _error.print(f'[bold red]error:[/] {error}', highlight=False)
        return EXIT_ERROR
    except KeyboardInterrupt:
        _error.print('interrupted', highlight=False)
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition('.')[0] == 'vdd_ros':
            raise
        _error.print(
            f'[bold red]error:[/] expected the python package {error.name} for this command; found none; '
            "install the extras that hold it: pip install 'vdd_ros[ros,train,sim]'",
            highlight=False,
            markup=True,
        )
        return EXIT_ERROR
    return 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f'{path.name}.{name}')


def _say(text: str) -> None:
    _out.print(text, highlight=False)


def _summarize(report: dict, output: Path) -> None:
    teacher, student = report['teacher'], report['student']
    _say(f'teacher: success {teacher["success"]:.3f}, entropy {teacher["entropy"]:.3f}')
    _say(f'student: success {student["success"]:.3f}, entropy {student["entropy"]:.3f}')
    if report['ros']['episodes']:
        _say(f'over ROS: success {report["ros"]["success"]:.2f} of {report["ros"]["episodes"]}')
    _say(
        f'one answer is {report["speedup"]:.0f} x as fast as that of the teacher in eager torch, '
        f'{report["speedup_same_runtime"]:.0f} x in the same runtime'
    )
    _say(f'now open {output / "report.html"}')


if __name__ == '__main__':
    sys.exit(main())
