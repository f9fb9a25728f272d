"""Demonstrations without ROS: the same rows that a bag of the same motion would give."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from vdd_ros.contract import Contract
from vdd_ros.control.embodiment import Embodiment
from vdd_ros.data.decode import action_values
from vdd_ros.data.episode import Episode
from vdd_ros.errors import ContractError
from vdd_ros.kinematics import Kinematics
from vdd_ros.sim.tasks import Demonstrator, Task


class Teleoperation:
    """Turns the hand that a demonstrator commands into joint commands; the orientation of the tool is held."""

    def __init__(self, kinematics: Kinematics, task: Task, demonstrator: Demonstrator) -> None:
        """Let a demonstrator of a task drive an arm.

        Raises
        ------
        ContractError
            The task moves a gripper that is not among the joints of the kinematics.

        """
        missing = [joint for joint in task.gripper if joint not in kinematics.joints]
        if missing:
            raise ContractError(
                expected=f'the joint {missing[0]} of {task.name} among those of the contract',
                found=', '.join(kinematics.joints),
                remedy=f'add it to robot.joints, or take the contract {task.contract}',
            )
        self.demonstrator = demonstrator
        self._kinematics = kinematics
        self._gripper = [kinematics.joints.index(joint) for joint in task.gripper]

    def begin(self, measured: np.ndarray) -> None:
        """Start the next demonstration from measured joints, shape (joint,) [rad]."""
        self._commanded = np.array(measured, dtype=np.float64)
        self._orientation = self._kinematics.tool_orientation(self._commanded)
        self.demonstrator.begin(self._hand())

    def command(self) -> np.ndarray:
        """Return the next joint command, shape (joint,) [rad]: one in each policy period."""
        hand = self.demonstrator.command(self._hand())
        self._commanded = self._kinematics.solve(hand[:3], self._orientation, self._commanded)
        self._commanded[self._gripper] = hand[3:]
        return self._commanded

    def _hand(self) -> np.ndarray:
        return np.concatenate([self._kinematics.tool_position(self._commanded), self._commanded[self._gripper]])


def demonstrate(
    task: Task,
    contract: Contract,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    demonstrator: Demonstrator | None = None,
) -> list[Episode]:
    """Demonstrate a task in process.

    Parameters
    ----------
    task, contract
        What is shown, and what is kept of it.
    episodes
        How many demonstrations; those that fail are among them.
    seed
        Equal seeds give equal demonstrations.
    progress
        Called with (episodes done, episodes) after each.
    demonstrator
        Who shows it, in place of the task's own one of this seed.

    Returns
    -------
    Episodes with the outcome, and the label ``way`` if one was taken.

    """
    kinematics = Kinematics.from_contract(contract)
    demonstrator = demonstrator or task.new_demonstrator(np.random.default_rng(seed))
    teleoperation = Teleoperation(kinematics, task, demonstrator)
    embodiment = Embodiment(contract, kinematics)
    simulation = task.simulation(contract.robot.joints)
    shown = []
    for episode in range(episodes):
        task.reset(simulation, episode)
        referee, verdict = task.new_referee(), 'running'
        embodiment.anchor(simulation.position)
        teleoperation.begin(simulation.position)
        observations, actions = [], []
        while not demonstrator.finished and verdict != 'failure':
            observations.append(embodiment.observe(simulation.position)[-1])
            before = embodiment.commanded
            command = teleoperation.command()
            embodiment.sent(command)
            simulation.set_command(command)
            simulation.step(contract.period)
            verdict = referee.judge(simulation)
            actions.append(action_values(contract, before, command, kinematics))
        labels = {} if referee.way is None else {'way': task.way_names[referee.way]}
        success = verdict == 'success'
        shown.append(Episode(np.stack(observations), np.stack(actions), success, MappingProxyType(labels)))
        if progress is not None:
            progress(len(shown), episodes)
    return shown
