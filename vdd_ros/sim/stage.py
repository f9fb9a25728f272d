"""The content of one bridge: a task or a robot, with controllers, sensors and cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.sim.assembly import open_scene
from vdd_ros.sim.controllers import Controller, GripperController, PositionController, TrajectoryController, claimant
from vdd_ros.sim.scene import Gripper, Position, SceneSettings, TrajectoryFollower, load_scene
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Task, load_task

Interface = Literal['position', 'trajectory']

_TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'


@dataclass(frozen=True)
class Stage:
    """A scene with its controllers, sensors and cameras."""

    simulation: Simulation
    """The scene, in its start state."""
    controllers: Mapping[str, Controller]
    """Controllers by name; those configured as active are active."""
    settings: SceneSettings
    """Sensors and cameras of the scene file."""
    task: Task | None
    """The evaluated task; None: no evaluation."""
    period: int
    """Command period in lockstep [ns]."""
    awaited: tuple[str, ...] = ()
    """Controllers for which lockstep waits, if the contract has several; empty: the first active arm controller."""


def open_stage(
    task: str, scene: str | Path, controller: str, interface: Interface, contract: Contract | None = None
) -> Stage:
    """Build the content of a bridge.

    Parameters
    ----------
    task
        A task, see `load_task`. Not used if the scene file has a model.
    scene
        A scene file, or the name of a shipped one; empty for none. A scene file without a model adds controllers,
        sensors and cameras to the task.
    controller, interface
        Name and kind of the controller for the joints of a task, unless task or scene file define one.
    contract
        Contract. If it has several controllers, and neither task nor scene file defines any, these controllers are
        simulated.

    Raises
    ------
    ConfigurationError
        The scene file is invalid, two active controllers use the same joint, or the command period is not an integer
        number of physics steps.
    ModelError
        A model is missing or malformed, or lacks a named element.

    """
    settings, folder = load_scene(scene)
    if settings.model:
        simulation, place = open_scene(settings, folder), None
        period = round(NANOSECONDS / settings.command_rate)
        if period % simulation.timestep:
            raise ConfigurationError(
                expected=f'a command_rate whose period is a whole number of physics steps of {simulation.timestep} ns',
                found=f'{settings.command_rate:g} Hz, {period} ns',
                remedy=f'correct command_rate or timestep in {scene}',
            )
        wanted = named = dict(settings.controllers)
    else:
        place = load_task(task)
        simulation, period = place.simulation(), place.period
        wanted = named = {**place.settings.controllers, **settings.controllers}
        if place.arm_controller is None:
            kind = Position if interface == 'position' else TrajectoryFollower
            wanted = {controller: kind.parse({'type': interface, 'joints': place.joints}), **wanted}
        settings = place.settings.model_copy(
            update={
                'sensors': {**place.settings.sensors, **settings.sensors},
                'cameras': {**place.settings.cameras, **settings.cameras},
            }
        )
    awaited: tuple[str, ...] = ()
    if contract is not None and len(contract.controllers) > 1:
        wanted = wanted if named else controllers_of(contract)
        commanded = [set(each.joints) for each in contract.controllers]
        awaited = tuple(name for name, each in wanted.items() if set(getattr(each, 'joints', ())) in commanded)
    controllers = {name: _controller(name, each, simulation) for name, each in wanted.items()}
    for name, each in controllers.items():
        other = claimant(list(controllers.values()), each) if wanted[name].active else None
        if other is not None:
            raise ConfigurationError(
                expected='one active controller for every joint',
                found=f'{other[1]} under {other[0].name} and {name}',
                remedy=f'set `active: false` for one of them in {scene or "the scene file"}',
            )
        each.active = wanted[name].active
    return Stage(simulation, controllers, settings, place, period, awaited)


def controllers_of(contract: Contract) -> dict[str, Position | TrajectoryFollower]:
    """Return simulated controllers for those that a contract commands, by name; topic NAME/commands gives NAME.

    Raises
    ------
    ConfigurationError
        A controller's joints have no names.

    """
    found = {}
    for each in contract.controllers:
        if not each.measured:
            raise ConfigurationError(
                expected='controllers that can be simulated: with joints by name',
                found=f'{each.type} on {each.topic}, whose joints have no names',
                remedy='name its `joints` in the contract; or list controllers in a scene file',
            )
        path = each.topic.strip('/')
        name = path.rpartition('/')[0] or path
        kind = TrajectoryFollower if each.type == _TRAJECTORY else Position
        found[name] = kind.parse({'type': 'position' if kind is Position else 'trajectory', 'joints': each.joints})
    return found


def _controller(name: str, settings: Position | TrajectoryFollower | Gripper, simulation: Simulation) -> Controller:
    if isinstance(settings, Position):
        return PositionController(name, simulation, settings.joints)
    if isinstance(settings, Gripper):
        return GripperController(name, simulation, settings.actuators, settings.stroke)
    return TrajectoryController(
        name,
        simulation,
        settings.joints,
        partial=settings.allow_partial_joints_goal,
        from_desired=settings.interpolate_from_desired_state,
        moving_end=settings.allow_nonzero_velocity_at_trajectory_end,
    )
