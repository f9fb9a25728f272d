"""Replay of a recorded episode, on an arm or against a policy."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro
from rich.markup import escape
from rich.table import Table

from vdd_ros.commands.echo import beside, echo, out
from vdd_ros.commands.reading import ReadsBags
from vdd_ros.common.console import Bars, table
from vdd_ros.common.errors import ConfigurationError

if TYPE_CHECKING:
    from vdd_ros.validation.differences import Shadowed

_NUMBERS = 5
"""Number of action entries in a table of experts, limited by 80 columns."""


@dataclass(frozen=True)
class Replay(ReadsBags):
    """Replay a recorded episode: on the simulated arm, on your robot, or against a policy.

    --simulate plays the recorded commands in MuJoCo, on the robot of the contract, and reports the result. --robot
    plays them on the robot of this ROS graph. After the preflight, the robot moves slowly to the start of the episode,
    then at --speed, within the limits of the model and of --deployment. Ctrl-C, ~/stop and ~/estop brake. --student
    computes the actions of a policy at every tick of every episode, and reports the differences by action entry and
    expert, without robot and ROS.
    """

    bag: Annotated[Path, tyro.conf.Positional]
    """The bag."""
    contract: str = 'avoiding_cartesian'
    """Contract of the bag: a YAML file, or the name of a shipped contract; with --student, that of the student."""
    episode: int = 0
    """Number of the episode, from 0; -1 is the last."""
    simulate: bool = False
    """Play the episode on the simulated arm."""
    robot: bool = False
    """Play the episode on the robot. The robot moves immediately."""
    student: Path | None = None
    """Artifact of a student to compare with."""
    task: str = ''
    """With --simulate: the task, as for `vdd validate`; default: that of the contract, if there is one."""
    scene: str = ''
    """With --simulate: scene file with the robot of the contract; by default generated from the robot model."""
    controller: str = ''
    """With --robot: the position controller with the topic NAME/commands; default: commands topic of the contract."""
    deployment: Path | None = None
    """With --robot: parameter file of the policy node, such as config/robots/ur5e.yaml, whose arm parameters are
    used."""
    speed: float = 1.0
    """With --robot: speed as a multiple of the recorded speed."""
    seed: int = 0
    """With --student: random seed for the choice of experts."""

    def run(self) -> None:
        """Run the command."""
        modes = [self.simulate, self.robot, self.student is not None]
        if sum(modes) != 1:
            raise ConfigurationError(
                expected='one of --simulate, --robot and --student',
                found=f'{sum(modes)} of them',
                remedy='choose where to replay the episode, or a student to compare with',
            )
        if self.simulate:
            self._simulate()
        elif self.robot:
            self._play()
        elif self.student is not None:
            self._compare(self.student)

    def _simulate(self) -> None:
        from vdd_ros.validation.simulated_replay import replay_simulated

        replay_simulated(
            self.bag,
            contract=self.contract,
            episode=self.episode,
            task=self.task,
            scene=self.scene,
            logs=beside(self.bag, 'logs'),
            report=echo,
        )

    def _play(self) -> None:
        """Become the node, which then receives Ctrl-C."""
        values = {
            **self._deployed(),
            'bag': str(self.bag),
            'contract': self.contract,
            'episode': self.episode,
            **({'controller': self.controller} if self.controller else {}),
            'speed': self.speed,
            'autostart': True,
        }
        words = [word for name, value in values.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
        command = [sys.executable, '-m', 'vdd_ros.entry', 'replay', '--ros-args', *words]
        os.execve(sys.executable, command, {'AMENT_PREFIX_PATH': sys.prefix, **os.environ})

    def _deployed(self) -> dict[str, object]:
        """Return the deployment parameters of the arm, without those of the policy."""
        if self.deployment is None:
            return {}
        from vdd_ros.control.deployment import deployment_parameters
        from vdd_ros.nodes.arm.parameters import PARAMETERS

        values = deployment_parameters(self.deployment)
        shared = {row.name for row in PARAMETERS} | {'operating_mode'}
        if values.get('operating_mode') == 'shadow':
            raise ConfigurationError(
                expected='operating_mode slow or full for replay on a robot',
                found='shadow',
                remedy=f'change it in {self.deployment}',
            )
        return {name: value for name, value in values.items() if name in shared}

    def _compare(self, student: Path) -> None:
        from functools import partial

        from vdd_ros.data.demonstrations import converted
        from vdd_ros.policy.policy import DistilledPolicy
        from vdd_ros.robot.kinematics import Kinematics
        from vdd_ros.validation.differences import shadow

        policy = DistilledPolicy.load(student)
        contract = policy.contract
        with Bars(out) as bars:
            found = converted([self.bag], contract, partial(Kinematics.from_contract, contract), bars)
            episodes = [episode for item in found for episode in item.episodes]
            result = shadow(
                policy,
                contract,
                episodes,
                np.random.default_rng(self.seed),
                lambda share: bars('shadow', share, 1, {}),
            )
        out.print(_by_number(result))
        for first in range(0, len(result.drawn.names), _NUMBERS):
            out.print(_by_expert(result, slice(first, first + _NUMBERS)))
        worst = np.argsort(result.by_episode())[::-1][:5]
        listed = ', '.join(f'{episodes[place].index} ({result.by_episode()[place]:.2f})' for place in worst)
        echo(f'{len(result.drawn)} ticks of {len(episodes)} episodes; farthest from all experts: {listed}')


def _by_number(result: Shadowed) -> Table:
    """Print the differences between the student's and the demonstrated actions, by action entry."""
    columns = ('bias', 'median', '95 %', 'nearest median', 'nearest 95 %', 'typical step')
    found = table('actions of the student minus recorded actions', '', *columns)
    for drawn, near in zip(result.drawn.by_number(), result.nearest.by_number()):
        values = (*drawn[1:4], *near[2:4], drawn[4])
        found.add_row(escape(drawn[0]), *(f'{value:.4g}' for value in values))
    return found


def _by_expert(result: Shadowed, numbers: slice) -> Table:
    """Print the differences by expert, for some action entries."""
    names = result.drawn.names[numbers]
    found = table('experts', 'expert', 'drawn', 'nearest', 'error [typical]', *names)
    near_by_expert = {row[0]: row for row in result.nearest.by_expert()}
    for expert, share, relative, errors in result.drawn.by_expert():
        near = near_by_expert.get(expert)
        shares = f'{share:.0%}', '' if near is None else f'{near[1]:.0%}', f'{relative:.2f}'
        found.add_row(f'{expert}', *shares, *(f'{value:.4g}' for value in errors[numbers]))
    return found
