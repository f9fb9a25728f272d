"""Demonstrations without ROS: the same rows that a bag of the same motion would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from vdd_ros.common.errors import ContractError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.decode.decode import action_values
from vdd_ros.data.episode import Episode
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.tasks import Demonstrator, Task

CONTROL_PERIOD = 5_000_000
"""Time between two commands of a demonstration [ns]: 200 Hz, as the bridge's joint states."""

_SMOOTHING = 0.05
"""Standard deviation of the kernel that smooths a hand's motion in time [s]: no person moves with more jerk."""
_SUPPORT = 4.0
"""Where the kernel ends, in standard deviations."""
_SHARE = 0.9
"""Share of the joints' limits that a demonstration uses at most."""


class Teleoperation:
    """Turns the hand that a demonstrator moves into joint commands at control rate; the tool's orientation is held.

    A demonstrator chooses a hand position for each policy period. The polyline through them is convolved with a
    Gaussian in time, which bounds acceleration and jerk, and slowed down where a joint limit of the model asks for it:
    an arm can follow what is recorded.
    """

    def __init__(
        self, kinematics: Kinematics, task: Task, demonstrator: Demonstrator, joints: Sequence[str] | None = None
    ) -> None:
        """Let a demonstrator of a task move an arm.

        Parameters
        ----------
        kinematics, task, demonstrator
            The arm, and who moves it.
        joints
            All that is commanded: the joints of the kinematics, then those of further controllers such as a gripper.
            Left out: the former alone.

        Raises
        ------
        ContractError
            The task moves a gripper that is not among the joints.

        """
        joints = kinematics.joints if joints is None else tuple(joints)
        missing = [joint for joint in task.gripper if joint not in joints]
        if missing:
            raise ContractError(
                expected=f'the joint {missing[0]} of {task.name} among those of the contract',
                found=', '.join(joints),
                remedy='add it to robot.joints, or name it as the joint of an action with a topic of its own, or take '
                f'the contract {task.contract}',
            )
        self.demonstrator = demonstrator
        self._kinematics = kinematics
        self._robot = slice(len(kinematics.joints))
        self._limits = kinematics.limits_of(joints)
        self._gripper = [joints.index(joint) for joint in task.gripper]
        self._period = task.period / NANOSECONDS
        self._commands = np.zeros((0, len(joints)))
        self._next = 0

    @property
    def finished(self) -> bool:
        """Whether all is commanded."""
        return self._next >= len(self._commands)

    def begin(self, measured: np.ndarray) -> None:
        """Start the next demonstration from measured joints, shape (joint,) [rad]."""
        hand = np.concatenate([self._kinematics.tool_position(measured[self._robot]), measured[self._gripper]])
        self.demonstrator.begin(hand)
        hands = [hand]
        while not self.demonstrator.finished:
            hands.append(self.demonstrator.command(hands[-1]))
        seconds = CONTROL_PERIOD / NANOSECONDS
        motion = _smooth(np.array(hands), self._period, seconds)
        commands = self._solved(motion, measured)
        slowness = _slowness(commands, self._limits, seconds)
        if slowness > 1:
            motion = _smooth(np.array(hands), self._period * slowness, seconds)
            commands = self._solved(motion, measured)
        self._commands, self._next = commands, 0

    def command(self) -> np.ndarray:
        """Return the next joint command, shape (joint,) [rad]: one in each `CONTROL_PERIOD`."""
        self._next += 1
        return self._commands[self._next - 1]

    def _solved(self, motion: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Return the joints, shape (time, joint) [rad], that bring the hand along a motion."""
        orientation = self._kinematics.tool_orientation(measured[self._robot])
        commands, joints = [], np.array(measured, dtype=np.float64)
        for hand in motion:
            joints = np.array(joints)
            joints[self._robot] = self._kinematics.solve(hand[:3], orientation, joints[self._robot])
            joints[self._gripper] = hand[3:]
            commands.append(joints)
        return np.array(commands)


def _smooth(hands: np.ndarray, period: float, seconds: float) -> np.ndarray:
    """Sample the motion through hands, shape (time, axis), one for each ``period`` [s], at steps of ``seconds`` [s].

    The motion begins and ends at rest at the first and the last hand.
    """
    margin = _SUPPORT * _SMOOTHING
    times = np.arange(-2 * margin, (len(hands) - 1) * period + 2 * margin + seconds / 2, seconds)
    polyline = np.stack([np.interp(times, np.arange(len(hands)) * period, axis) for axis in hands.T])
    reach = round(margin / seconds)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * seconds / _SMOOTHING) ** 2)
    return np.stack([np.convolve(axis, kernel / kernel.sum(), 'valid') for axis in polyline], axis=1)


def _slowness(commands: np.ndarray, limits: Mapping[str, np.ndarray], seconds: float) -> float:
    """Return by which factor commands, shape (time, joint) [rad], must be slower to keep a share of the limits."""
    factors = []
    for order, kind in enumerate(('velocity', 'acceleration', 'jerk'), 1):
        excess = np.abs(np.diff(commands, order, axis=0)).max(axis=0) / seconds**order / (_SHARE * limits[kind])
        factors.append(float(excess.max()) ** (1 / order))
    return max(factors)


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
    teleoperation = Teleoperation(kinematics, task, demonstrator, contract.joints)
    policy_interface = PolicyInterface(contract, kinematics)
    simulation = task.simulation(contract.joints)
    shown = []
    for episode in range(episodes):
        task.reset(simulation, episode)
        success_detector, verdict = task.new_success_detector(), 'running'
        policy_interface.anchor(simulation.position)
        teleoperation.begin(simulation.position)
        observations, actions = [], []
        elapsed = 0
        while not teleoperation.finished and verdict != 'failure':
            observations.append(policy_interface.observe(simulation.position)[-1])
            before = policy_interface.commanded
            while elapsed < len(observations) * contract.period and not teleoperation.finished:
                command = teleoperation.command()
                simulation.set_command(command)
                simulation.step(CONTROL_PERIOD)
                elapsed += CONTROL_PERIOD
                verdict = success_detector.judge(simulation)
            policy_interface.sent(command)
            actions.append(action_values(contract, before, command, kinematics))
        labels = {} if success_detector.way is None else {'way': task.way_names[success_detector.way]}
        success = verdict == 'success'
        shown.append(Episode(np.stack(observations), np.stack(actions), success, MappingProxyType(labels)))
        if progress is not None:
            progress(len(shown), episodes)
    return shown
