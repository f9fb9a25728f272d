"""Controllers between commands and servos, with the rules of the ros2_control controllers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.sim.model import find, servo_of
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.trajectory import Trajectory, TrajectoryGoal, Waypoint

_STILL = float(np.finfo(np.float32).eps)


class Controller(ABC):
    """Converts commands to actuator controls. While active, it has exclusive use of its actuators."""

    def __init__(self, name: str, simulation: Simulation, moves: Sequence[str], actuators: Sequence[int]) -> None:
        """Set the actuators of a scene, by index; ``moves`` gives the joint or actuator name for each of them."""
        self.name = name
        self.moves = tuple(moves)
        """Names of the joints or actuators."""
        self.actuators = tuple(int(actuator) for actuator in actuators)
        """Indices of the actuators."""
        self._simulation = simulation
        self._control = np.array(self.actuators, dtype=int)
        self.active = False
        """Whether the controller is active."""

    @abstractmethod
    def start(self) -> None:
        """Hold the current position, and drop earlier commands."""

    @abstractmethod
    def update(self, now: int) -> None:
        """Set the actuator controls at a time [ns]; called once per controller update."""


class PositionController(Controller):
    """Forwards positions to servos like forward_command_controller: without interpolation, timeout or limits."""

    def __init__(self, name: str, simulation: Simulation, joints: Sequence[str]) -> None:
        """Create a controller for joints, in this order; each must have a position servo.

        Raises
        ------
        ModelError
            The scene lacks a joint or its servo.
        ConfigurationError
            A joint is listed twice.

        """
        self.joints = _once(name, joints)
        self._qpos, _, servos = _indices(simulation, self.joints)
        super().__init__(name, simulation, self.joints, servos)

    def start(self) -> None:
        """Hold the present joint positions."""
        self._goal = self._simulation.data.qpos[self._qpos].copy()

    def check(self, values: np.ndarray) -> np.ndarray:
        """Return positions, shape (joint,) [rad], if they are valid.

        Raises
        ------
        InterfaceError
            The number of positions differs from that of the joints, or a position is not finite.

        """
        return _checked(values, self.joints)

    def accept(self, values: np.ndarray, now: int) -> None:
        """Accept checked positions, shape (joint,) [rad]."""
        self._goal = values

    @property
    def tracking(self) -> tuple[np.ndarray, np.ndarray]:
        """Commanded and measured positions, each of shape (joint,) [rad]."""
        return self._goal, self._simulation.data.qpos[self._qpos].copy()

    def update(self, now: int) -> None:
        """Set the servo commands to the last accepted positions."""
        self._simulation.data.ctrl[self._control] = self._goal


class GripperController(Controller):
    """Opens and closes a gripper: one value, the opening [m], sets one or more actuators."""

    def __init__(
        self, name: str, simulation: Simulation, actuators: Mapping[str, tuple[float, float]], stroke: float
    ) -> None:
        """Map the opening to actuator controls (closed, open); ``stroke`` is the maximum opening [m].

        Raises
        ------
        ModelError
            The scene lacks an actuator.

        """
        kind = mujoco.mjtObj.mjOBJ_ACTUATOR
        indices = [find(simulation.model, kind, actuator) for actuator in actuators]
        super().__init__(name, simulation, list(actuators), indices)
        self._closed, self._open = np.array(list(actuators.values())).T
        self.stroke = stroke
        """Opening of the open gripper [m]."""
        self.joints = ('opening',)

    def start(self) -> None:
        """Hold the current actuator controls."""
        self._goal = self._simulation.data.ctrl[self._control].copy()

    def check(self, values: np.ndarray) -> np.ndarray:
        """Return the opening, shape (1,) [m]; errors as for `PositionController.check`."""
        return _checked(values, self.joints)

    def accept(self, values: np.ndarray, now: int) -> None:
        """Accept a checked opening, shape (1,) [m]; it is limited to the stroke."""
        share = min(max(float(values[0]) / self.stroke, 0.0), 1.0)
        self._goal = self._closed + share * (self._open - self._closed)

    def update(self, now: int) -> None:
        """Set the actuator controls for the last accepted opening."""
        self._simulation.data.ctrl[self._control] = self._goal


class TrajectoryController(Controller):
    """Follows trajectories by the rules of joint_trajectory_controller; a new one replaces the current one."""

    def __init__(
        self,
        name: str,
        simulation: Simulation,
        joints: Sequence[str],
        *,
        partial: bool = False,
        from_desired: bool = False,
        moving_end: bool = False,
    ) -> None:
        """Create a controller for joints; each must have a position servo.

        Parameters
        ----------
        name, simulation, joints
            See `PositionController`, also for errors.
        partial
            Whether a goal may omit joints (``allow_partial_joints_goal``); these keep their position.
        from_desired
            Whether a trajectory begins at the last command (``interpolate_from_desired_state``) instead of the
            measurement.
        moving_end
            Whether the last point may have a velocity (``allow_nonzero_velocity_at_trajectory_end``).

        """
        self.joints = _once(name, joints)
        self._qpos, self._dof, servos = _indices(simulation, self.joints)
        super().__init__(name, simulation, self.joints, servos)
        self._partial, self._from_desired, self._moving_end = partial, from_desired, moving_end

    def start(self) -> None:
        """Hold the present joint positions."""
        position = self._simulation.data.qpos[self._qpos].copy()
        self._desired = position, np.zeros_like(position)
        self._trajectory: Trajectory | None = None

    def check(self, goal: TrajectoryGoal, now: int) -> None:
        """Check a goal as joint_trajectory_controller would at ``now`` [ns].

        Raises
        ------
        InterfaceError
            A joint is missing, unknown or listed twice; there are no points, or some lack a value; time_from_start
            does not ascend strictly from zero; a stamped goal ends in the past; the last point has a velocity; or a
            number is not finite.

        """
        ours = ', '.join(self.joints)
        unknown = [joint for joint in goal.joints if joint not in self.joints]
        if unknown or not goal.joints or len(set(goal.joints)) != len(goal.joints):
            raise _refusal(
                f'joints of {self.name} ({ours}) without repetition', ', '.join(goal.joints) or 'no joint names'
            )
        missing = [joint for joint in self.joints if joint not in goal.joints]
        if missing and not self._partial:
            raise _refusal(f'all joints of {self.name} ({ours})', f'no {", ".join(missing)}')
        if not len(goal.times):
            raise _refusal('a trajectory with points', 'none')
        for values in (goal.position, goal.velocity, goal.acceleration):
            if values is not None and values.shape != (len(goal.times), len(goal.joints)):
                raise _refusal(f'{len(goal.joints)} values in each of {len(goal.times)} points', f'{values.shape}')
            # A row of NaN means that the point has no value. Positions are required.
            given = values if values is goal.position or values is None else values[~np.isnan(values).all(axis=1)]
            if given is not None and not np.isfinite(given).all():
                raise _refusal('a trajectory of finite numbers', f'{given.tolist()}')
        steps = np.diff(goal.times, prepend=-1)
        if (steps <= 0).any():
            where = int(np.argmax(steps <= 0))
            raise _refusal(
                'time_from_start that ascends strictly from zero', f'{goal.times[where]} ns at point {where}'
            )
        if goal.stamp and goal.stamp + goal.times[-1] < now:
            raise _refusal(f'a trajectory that ends after now, {now} ns', f'an end at {goal.stamp + goal.times[-1]} ns')
        if goal.velocity is not None and not self._moving_end and (np.abs(goal.velocity[-1]) > _STILL).any():
            raise _refusal('a last point without velocity', f'{goal.velocity[-1].tolist()}')

    def accept(self, goal: TrajectoryGoal, now: int) -> None:
        """Follow a goal from ``now`` [ns] on; errors as for `check`."""
        self.check(goal, now)
        data = self._simulation.data
        measured = data.qpos[self._qpos].copy(), data.qvel[self._dof].copy()
        position, velocity = self._desired if self._from_desired else measured
        columns = [self.joints.index(joint) for joint in goal.joints]
        begin = goal.stamp or now

        def filled(rows: np.ndarray | None, point: int, rest: np.ndarray) -> np.ndarray | None:
            """Return the values of a point in the order of this controller; omitted joints get ``rest``."""
            if rows is None or np.isnan(rows[point]).all():
                return None
            values = rest.copy()
            values[columns] = rows[point]
            return values

        still = np.zeros(len(self.joints))
        points = [
            Waypoint(
                begin + int(time),
                filled(goal.position, point, position),
                filled(goal.velocity, point, still),
                filled(goal.acceleration, point, still),
            )
            for point, time in enumerate(goal.times)
        ]
        self._trajectory = Trajectory(Waypoint(now, position, velocity), points)

    @property
    def tracking(self) -> tuple[np.ndarray, np.ndarray]:
        """Commanded and measured positions, each of shape (joint,) [rad]."""
        return self._desired[0], self._simulation.data.qpos[self._qpos].copy()

    def update(self, now: int) -> None:
        """Set the servo commands to the point of the trajectory at ``now`` [ns]."""
        if self._trajectory is not None:
            self._desired = self._trajectory.at(now)
        self._simulation.data.ctrl[self._control] = self._desired[0]


def claimant(controllers: Sequence[Controller], wanted: Controller) -> tuple[Controller, str] | None:
    """Return an active controller that uses an actuator of `wanted`, and the name for it; None if all are free."""
    for other in controllers:
        if other is not wanted and other.active:
            for name, actuator in zip(wanted.moves, wanted.actuators):
                if actuator in other.actuators:
                    return other, name
    return None


def _once(name: str, joints: Sequence[str]) -> tuple[str, ...]:
    twice = sorted({joint for joint in joints if list(joints).count(joint) > 1})
    if twice or not joints:
        raise ConfigurationError(
            expected=f'distinct joints for controller {name}',
            found=f'{", ".join(twice)} twice' if twice else 'none',
            remedy=f'correct `joints` of {name} in the scene file',
        )
    return tuple(joints)


def _indices(simulation: Simulation, joints: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    model = simulation.model
    indices = [find(model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in joints]
    return model.jnt_qposadr[indices], model.jnt_dofadr[indices], [servo_of(model, index) for index in indices]


def _checked(values: np.ndarray, joints: Sequence[str]) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(joints),):
        raise InterfaceError(
            expected=f'a command of {len(joints)} numbers ({", ".join(joints)})',
            found=f'{values.size}',
            remedy='send one number per joint of the controller',
        )
    if not np.isfinite(values).all():
        raise InterfaceError(
            expected='a command of finite numbers',
            found=f'{values.tolist()}',
            remedy='check the commander',
        )
    return values


def _refusal(expected: str, found: str) -> InterfaceError:
    return InterfaceError(expected=expected, found=found, remedy='correct the trajectory')
