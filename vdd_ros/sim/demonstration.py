"""Demonstrations without ROS, equal to those recorded in a bag of the same motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from vdd_ros.common.errors import ContractError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.decode.decode import action_values
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.episode import Episode
from vdd_ros.policy.observation import vector_of
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.cameras import CameraRenderer, SimulatedCameras
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Demonstrator, Task

CONTROL_PERIOD = 5_000_000
"""Interval between commands of a demonstration [ns]: 200 Hz, as the joint states of the bridge."""

_SMOOTHING = 0.05
"""Standard deviation of the temporal smoothing kernel [s], comparable to the smoothness of a human hand."""
_SUPPORT = 4.0
"""Half width of the kernel in standard deviations."""
_SHARE = 0.9
"""Maximum share of the joint limits used by a demonstration."""


class Teleoperation:
    """Converts the hand motion of a demonstrator to joint commands at control rate. The tool orientation is fixed.

    A demonstrator chooses a hand position for each policy period. The polyline through them is convolved with a
    Gaussian in time, which bounds acceleration and jerk, and slowed down if joint limits require it, so that an arm can
    follow the recorded commands.
    """

    def __init__(
        self, kinematics: Kinematics, task: Task, demonstrator: Demonstrator, joints: Sequence[str] | None = None
    ) -> None:
        """Connect a demonstrator of a task to the kinematics of an arm.

        Parameters
        ----------
        kinematics, task, demonstrator
            The arm, its task, and the demonstrator that moves it.
        joints
            All commanded joints: those of the kinematics, then those of further controllers such as a gripper. Default:
            only the joints of the kinematics.

        Raises
        ------
        ContractError
            The task has a gripper joint that is not among the joints.

        """
        joints = kinematics.joints if joints is None else tuple(joints)
        missing = [joint for joint in task.gripper if joint not in joints]
        if missing:
            raise ContractError(
                expected=f'the joint {missing[0]} of {task.name} in the contract',
                found=', '.join(joints),
                remedy='add it to robot.joints, or name it as the joint of an action with a topic of its own, or use '
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
        """Whether all commands were returned."""
        return self._next >= len(self._commands)

    def begin(self, measured: np.ndarray) -> None:
        """Start the next demonstration at measured joint positions, shape (joint,) [rad]."""
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
        """Return the next joint command, shape (joint,) [rad], once per `CONTROL_PERIOD`."""
        self._next += 1
        return self._commands[self._next - 1]

    def _solved(self, motion: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Return the joint positions of a hand motion, shape (time, joint) [rad]."""
        orientation = self._kinematics.tool_orientation(measured[self._robot])
        commands, joints = [], np.array(measured, dtype=np.float64)
        for hand in motion:
            joints = np.array(joints)
            joints[self._robot] = self._kinematics.solve(hand[:3], orientation, joints[self._robot])
            joints[self._gripper] = hand[3:]
            commands.append(joints)
        return np.array(commands)


def _smooth(hands: np.ndarray, period: float, seconds: float) -> np.ndarray:
    """Sample the motion through hand positions, shape (time, axis), given every ``period`` [s], every ``seconds`` [s].

    The motion begins and ends at rest, at the first and the last position.
    """
    margin = _SUPPORT * _SMOOTHING
    times = np.arange(-2 * margin, (len(hands) - 1) * period + 2 * margin + seconds / 2, seconds)
    polyline = np.stack([np.interp(times, np.arange(len(hands)) * period, axis) for axis in hands.T])
    reach = round(margin / seconds)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * seconds / _SMOOTHING) ** 2)
    return np.stack([np.convolve(axis, kernel / kernel.sum(), 'valid') for axis in polyline], axis=1)


def _slowness(commands: np.ndarray, limits: Mapping[str, np.ndarray], seconds: float) -> float:
    """Return the factor by which commands, shape (time, joint) [rad], must be slowed to respect the limits."""
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
    *,
    first: int = 0,
) -> list[Episode]:
    """Generate demonstrations of a task in process.

    Parameters
    ----------
    task, contract
        The task, and the contract that defines the recorded features.
    episodes
        Number of demonstrations, including failed ones.
    seed
        Equal seeds give equal demonstrations.
    progress
        Called with (episodes done, episodes) after each episode.
    demonstrator
        Replaces the demonstrator of the task.
    first
        Number of the first episode. Episodes with different numbers differ, so several processes can record different
        episodes.

    Returns
    -------
    Episodes with the outcome, and with the label ``mode`` if a mode was reached.

    """
    kinematics = Kinematics.from_contract(contract)
    demonstrator = demonstrator or task.new_demonstrator(np.random.default_rng(seed))
    teleoperation = Teleoperation(kinematics, task, demonstrator, contract.joints)
    policy_interface = PolicyInterface(contract, kinematics)
    simulation = task.simulation(contract.joints)
    cameras = _cameras_of(task, contract, simulation)
    shown = []
    for episode in range(episodes):
        task.reset(simulation, task.demonstrated_from + first + episode)
        demonstrator.look(simulation)
        if cameras is not None:
            cameras.begin(seed)
        success_detector, verdict = task.new_success_detector(), 'running'
        policy_interface.anchor(simulation.position)
        teleoperation.begin(simulation.position)
        observations, actions = [], []
        seen: dict[str, list[np.ndarray]] = {feature.name: [] for feature in contract.images}
        elapsed, began = 0, simulation.stamp
        while not teleoperation.finished and verdict != 'failure':
            images = {} if cameras is None else _pictured(cameras, began + len(observations) * contract.period, seen)
            observations.append(vector_of(policy_interface.observe(simulation.position, images))[-1])
            before = policy_interface.commanded
            while elapsed < len(observations) * contract.period and not teleoperation.finished:
                command = teleoperation.command()
                simulation.set_command(command)
                simulation.step(CONTROL_PERIOD)
                elapsed += CONTROL_PERIOD
                if cameras is not None:
                    cameras.look()
                verdict = task.judge(success_detector, simulation)
            policy_interface.sent(command)
            actions.append(action_values(contract, before, command, kinematics))
        labels = {} if success_detector.mode is None else {'mode': task.mode_names[success_detector.mode]}
        success = verdict == 'success'
        shots = {item.name: Frames(seen[item.name], item.image.size) for item in contract.images}
        arrays = np.stack(observations), np.stack(actions)
        shown.append(Episode(*arrays, success, MappingProxyType(labels), images=shots))
        if progress is not None:
            progress(len(shown), episodes)
    return shown


def _cameras_of(task: Task, contract: Contract, simulation: Simulation) -> SimulatedCameras | None:
    if not contract.images:
        return None
    return SimulatedCameras(CameraRenderer(simulation, task.settings.cameras, contract), simulation)


def _pictured(cameras: SimulatedCameras, tick: int, seen: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the images at a tick [ns], and append them to those that were seen; equal ones are held once."""
    found = {}
    for name, shot in cameras.at(tick).values.items():
        found[name] = shot.array()
        seen[name].append(found[name])
    return found
