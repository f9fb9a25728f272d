"""All that one bridge simulates: a task or any robot, with its controllers, sensors and cameras."""

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

_COMMANDS = ('commands', 'std_msgs/msg/Float64MultiArray')
_TRAJECTORY = ('joint_trajectory', 'trajectory_msgs/msg/JointTrajectory')


@dataclass(frozen=True)
class Stage:
    """A scene and what moves and watches it."""

    simulation: Simulation
    """At its start."""
    controllers: Mapping[str, Controller]
    """By name; those that are active from the start are."""
    settings: SceneSettings
    """What the scene file says of sensors and cameras."""
    task: Task | None
    """What is judged; None: nothing."""
    period: int
    """How often a commander answers in lockstep [ns]."""
    awaited: tuple[str, ...] = ()
    """The controllers that a contract commands, which lockstep waits for; empty: the first active one of an arm."""


def open_stage(
    task: str, scene: str | Path, controller: str, interface: Interface, contract: Contract | None = None
) -> Stage:
    """Build what a bridge simulates.

    Parameters
    ----------
    task
        Name of a task; does not count where the scene file names a model.
    scene
        A scene file, or one that ships; empty: none.
    controller, interface
        Name and kind of the controller of a task's joints, unless the scene file has one of that name.
    contract
        If it commands several controllers and the scene file names none, these are simulated.

    Raises
    ------
    ConfigurationError
        The scene file says what it cannot, two active controllers want one joint, or the command rate fits no
        physics step.
    ModelError
        A model is absent or malformed, or lacks what is named.

    """
    settings, folder = load_scene(scene)
    if settings.model:
        simulation, place = open_scene(settings, folder), None
        period = round(NANOSECONDS / settings.command_rate)
        if period % simulation.timestep:
            raise ConfigurationError(
                expected=f'a command_rate whose period is a whole number of physics steps of {simulation.timestep} ns',
                found=f'{settings.command_rate:g} Hz, {period} ns',
                remedy=f'mend command_rate or timestep in {scene}',
            )
        wanted = dict(settings.controllers)
    else:
        place = load_task(task)
        simulation, period = place.simulation(), place.period
        kind = Position if interface == 'position' else TrajectoryFollower
        wanted = {controller: kind.parse({'type': interface, 'joints': place.joints}), **settings.controllers}
    awaited: tuple[str, ...] = ()
    if contract is not None and len(contract.controllers) > 1 and not settings.controllers:
        wanted = controllers_of(contract)
        awaited = tuple(wanted)
    controllers = {name: _controller(name, each, simulation) for name, each in wanted.items()}
    for name, each in controllers.items():
        other = claimant(list(controllers.values()), each) if wanted[name].active else None
        if other is not None:
            raise ConfigurationError(
                expected='every joint under one active controller',
                found=f'{other[1]} under {other[0].name} and {name}',
                remedy=f'set `active: false` at one of them in {scene or "the scene file"}',
            )
        each.active = wanted[name].active
    return Stage(simulation, controllers, settings, place, period, awaited)


def controllers_of(contract: Contract) -> dict[str, Position | TrajectoryFollower]:
    """Return simulated controllers for those that a contract commands, by name.

    Raises
    ------
    ConfigurationError
        One takes messages that no simulated controller takes, or its joints have no names.

    """
    found = {}
    for each in contract.controllers:
        name, _, ending = each.topic.rpartition('/')
        kind = {_COMMANDS: Position, _TRAJECTORY: TrajectoryFollower}.get((ending, each.type))
        if kind is None or not each.measured:
            raise ConfigurationError(
                expected='controllers that can be simulated: joints by name, Float64MultiArray on NAME/commands or '
                'JointTrajectory on NAME/joint_trajectory',
                found=f'{each.type} on {each.topic}' + ('' if each.measured else ', whose joints have no names'),
                remedy='name its `joints` in the contract; or let a scene file say what the bridge simulates',
            )
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
