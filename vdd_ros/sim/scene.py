"""A robot in simulation by YAML alone: its model, what is mounted on it, its controllers, sensors and cameras."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Union

import mujoco
from pydantic import Field, ValidationError

from vdd_ros.contract_file import Document
from vdd_ros.errors import ConfigurationError, ModelError
from vdd_ros.settings import Settings
from vdd_ros.share import model_path, share_path
from vdd_ros.sim.model import compiled, load_spec
from vdd_ros.sim.simulation import Simulation, Start

Rate = Annotated[float, Field(gt=0, le=10_000)]
Joints = Annotated[tuple[str, ...], Field(min_length=1)]


class Attachment(Settings):
    """Another model that is mounted on the first: a gripper, a table, an object."""

    model: str
    """MJCF file, from the folder of the scene file; or the name of a model that ships."""
    to: str = ''
    """Site or body that carries it; empty: the world."""
    prefix: str = ''
    """What its names begin with, so that none is there twice."""
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where, in the frame of what carries it [m]; not for a site, which says that itself."""


class Servos(Settings):
    """Position servos on joints, in place of whatever moves these joints in the model."""

    joints: Joints
    """Joints of the model; each servo gets the name of its joint."""
    stiffness: Annotated[float, Field(gt=0)]
    """[N m/rad] or [N/m]"""
    damping: Annotated[float, Field(ge=0)]
    """[N m s/rad] or [N s/m]"""
    force: Annotated[float, Field(gt=0)] | None = None
    """Greatest torque [N m] or force [N]; None: without bounds."""


class Position(Settings):
    """Takes ``NAME/commands`` (std_msgs/Float64MultiArray), as forward_command_controller does."""

    type: Literal['position']
    joints: Joints
    """In the order of the commands."""
    active: bool = True
    """Whether it moves the arm from the start."""


class TrajectoryFollower(Settings):
    """Takes ``NAME/joint_trajectory`` (trajectory_msgs/JointTrajectory), as joint_trajectory_controller does."""

    type: Literal['trajectory']
    joints: Joints
    """What it moves."""
    active: bool = True
    """Whether it moves the arm from the start."""
    allow_partial_joints_goal: bool = False
    """Whether a goal may leave joints out."""
    interpolate_from_desired_state: bool = False
    """Whether a trajectory begins at what was commanded last, not at what is measured."""
    allow_nonzero_velocity_at_trajectory_end: bool = False
    """Whether the last point may have a velocity."""


class Gripper(Settings):
    """Takes ``NAME/commands`` (std_msgs/Float64MultiArray): one number, the opening [m]."""

    type: Literal['gripper']
    actuators: Annotated[Mapping[str, tuple[float, float]], Field(min_length=1)]
    """Actuators of the model, each with its control when closed and when open."""
    stroke: Annotated[float, Field(gt=0)]
    """Opening of the open gripper [m]."""
    active: bool = True
    """Whether it moves the gripper from the start."""


class ForceTorque(Settings):
    """Tells ``NAME/wrench`` (geometry_msgs/WrenchStamped): what lies beyond a site pulls at it."""

    type: Literal['force_torque']
    site: str
    """Where, and in whose axes; its body is what is held."""
    rate: Rate = 100.0
    """[Hz]"""


class Imu(Settings):
    """Tells ``NAME/imu`` (sensor_msgs/Imu)."""

    type: Literal['imu']
    site: str
    """Where, and in whose axes."""
    rate: Rate = 100.0
    """[Hz]"""


class Contacts(Settings):
    """Tells ``NAME/contacts`` (visualization_msgs/MarkerArray): an arrow for every contact, its force in newtons."""

    type: Literal['contacts']
    geoms: tuple[str, ...] = ('*',)
    """Geoms of which at least one takes part; ``*`` and ``?`` stand for any characters."""
    rate: Rate = 50.0
    """[Hz]"""


class Pose(Settings):
    """Tells ``NAME/pose`` (geometry_msgs/PoseStamped): where a body or site is in the world."""

    type: Literal['pose']
    of: str
    """Name of the body or site."""
    rate: Rate = 50.0
    """[Hz]"""


class Camera(Settings):
    """Tells ``NAME/image_raw``, ``camera_info`` and ``pose`` beside it, and if wanted ``depth/...`` and ``points``."""

    camera: str = ''
    """Camera of the model; by default that of the same name."""
    width: Annotated[int, Field(ge=1, le=8192)] = 640
    """[pixels]"""
    height: Annotated[int, Field(ge=1, le=8192)] = 480
    """[pixels]"""
    rate: Rate = 10.0
    """[Hz]"""
    depth: bool = False
    """Whether depth images are told."""
    points: bool = False
    """Whether point clouds are told."""
    stride: Annotated[int, Field(ge=1, le=64)] = 2
    """Every which pixel of a row and of a column becomes a point."""


Controller = Annotated[Union[Position, TrajectoryFollower, Gripper], Field(discriminator='type')]
Sensor = Annotated[Union[ForceTorque, Imu, Contacts, Pose], Field(discriminator='type')]


class SceneSettings(Settings):
    """What a scene file says."""

    model: str = ''
    """MJCF or URDF file, from the folder of the scene file; or the name of a model that ships. Empty: the task's."""
    timestep: Annotated[float, Field(gt=0, le=0.1)] | None = None
    """Physics timestep [s], in place of the model's."""
    attachments: tuple[Attachment, ...] = ()
    """What is mounted, in this order."""
    servos: tuple[Servos, ...] = ()
    """Servos that the model lacks; with them, Euler's integration gives way to ``implicitfast``, which they need."""
    compensate_gravity: tuple[str, ...] = ()
    """Bodies whose weight the robot's own control bears; ``*`` and ``?`` stand for any characters."""
    keyframe: str = ''
    """Where every reset leads; empty: where the model is at first."""
    start: Mapping[str, float] = {}
    """Positions of joints at the start that differ from that [rad] or [m]."""
    joint_states: tuple[str, ...] = ()
    """Joints that are told besides those of the controllers, such as fingers."""
    command_rate: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """How often a commander answers in lockstep [Hz]; with a task, its policy rate counts."""
    controllers: Mapping[str, Controller] = {}
    """By name."""
    sensors: Mapping[str, Sensor] = {}
    """By name."""
    cameras: Mapping[str, Camera] = {}
    """By name."""


_BUILT = ('timestep', 'attachments', 'servos', 'compensate_gravity', 'keyframe', 'start')


def load_scene(path: str | Path) -> tuple[SceneSettings, Path]:
    """Read a scene file; return what it says, and the folder that its paths start from.

    Parameters
    ----------
    path
        A file, or the bare name of one that ships in ``config/scenes``; empty: says nothing.

    Raises
    ------
    ConfigurationError
        The file is absent, is no YAML, or says something that a scene file cannot say; the line is named.

    """
    if not str(path):
        return SceneSettings(), Path()
    file = Path(path)
    if not file.suffix:
        file = share_path('config', 'scenes', f'{path}.yaml')
    try:
        document = Document(file, file.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        known = ', '.join(sorted(other.stem for other in share_path('config', 'scenes').glob('*.yaml')))
        raise ConfigurationError(
            expected=f'a scene file at {file}', found=str(error), remedy=f'give its path, or one of {known}'
        ) from error
    try:
        settings = SceneSettings.model_validate(document.values or {})
    except ValidationError as error:
        # A key that is misspelt explains why another is missing.
        first = min(error.errors(), key=lambda each: each['type'] != 'extra_forbidden')
        # A union's tag, third in place, is no key of the file.
        tagged = first['loc'][0] in ('controllers', 'sensors')
        where = [part for place, part in enumerate(first['loc']) if place != 2 or not tagged]
        raise ConfigurationError(
            expected=f'a valid scene in {document.place(document.line(where))}',
            found=f'{".".join(map(str, first["loc"])) or "the whole"}: {first["msg"]}',
            remedy='mend that entry; docs/simulation.md lists what can be said',
        ) from error
    built = [name for name in _BUILT if name in settings.model_fields_set]
    if built and not settings.model:
        raise ConfigurationError(
            expected=f'a model in {file}',
            found=f'none, but {", ".join(built)}',
            remedy='name the model that they change',
        )
    return settings, file.parent


def open_scene(settings: SceneSettings, folder: Path) -> Simulation:
    """Build the scene of a file at its start.

    The simulation's joints are those of the position and trajectory controllers, then those of `joint_states`.

    Raises
    ------
    ModelError
        A model is absent or malformed, or lacks what the scene file names.

    """
    file = _file(settings.model, folder)
    spec = load_spec(file)
    for attachment in settings.attachments:
        _attach(spec, attachment, folder)
    for servos in settings.servos:
        _equip(spec, servos, file)
    if settings.servos and spec.option.integrator == int(mujoco.mjtIntegrator.mjINT_EULER):
        # Euler's method takes the damping of servos from the step before, and so shakes light links.
        spec.option.integrator = int(mujoco.mjtIntegrator.mjINT_IMPLICITFAST)
    if settings.timestep is not None:
        spec.option.timestep = settings.timestep
    _compensate(spec, settings.compensate_gravity, file)
    model = compiled(spec, file)
    moved = [joint for each in settings.controllers.values() if not isinstance(each, Gripper) for joint in each.joints]
    joints = list(dict.fromkeys([*moved, *settings.joint_states]))
    passive = [joint for joint in joints if joint not in moved]
    return Simulation(model, joints, passive=passive, home=Start(settings.keyframe, settings.start))


def _file(model: str, folder: Path) -> Path:
    path = model_path(model)
    return path if path.is_absolute() else folder / path


def _attach(spec: mujoco.MjSpec, attachment: Attachment, folder: Path) -> None:
    file = _file(attachment.model, folder)
    child = load_spec(file)
    site = next((site for site in spec.sites if site.name == attachment.to), None)
    try:
        if site is not None:
            spec.attach(child, site=site, prefix=attachment.prefix)
            return
        body = spec.worldbody if not attachment.to else spec.body(attachment.to)
        if body is None:
            raise ModelError(
                expected=f'a site or body {attachment.to} that carries {file}',
                found=', '.join(other.name for other in [*spec.sites, *spec.bodies] if other.name),
                remedy='name one of them',
            )
        spec.attach(child, frame=body.add_frame(pos=list(attachment.position)), prefix=attachment.prefix)
    except ValueError as error:
        raise ModelError(
            expected=f'names of {file} that are free with the prefix {attachment.prefix!r}',
            found=' '.join(str(error).split()),
            remedy='give the attachment another prefix',
        ) from error


def _equip(spec: mujoco.MjSpec, servos: Servos, file: Path) -> None:
    known = {joint.name: joint for joint in spec.joints}
    for name in servos.joints:
        if name not in known:
            raise ModelError(
                expected=f'a joint {name} in {file} for a servo',
                found=', '.join(filter(None, known)) or 'no joint',
                remedy='mend `servos` of the scene file',
            )
        for actuator in list(spec.actuators):
            if actuator.trntype == mujoco.mjtTrn.mjTRN_JOINT and actuator.target == name:
                spec.delete(actuator)
        added = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        added.set_to_position(kp=servos.stiffness, kv=servos.damping)
        if servos.force is not None:
            added.forcelimited, added.forcerange = True, [-servos.force, servos.force]
        if known[name].range[0] < known[name].range[1]:
            added.inheritrange = 1.0  # in whatever unit the model has angles


def _compensate(spec: mujoco.MjSpec, patterns: tuple[str, ...], file: Path) -> None:
    for pattern in patterns:
        bodies = [body for body in spec.bodies if body.name and fnmatch.fnmatchcase(body.name, pattern)]
        if not bodies:
            raise ModelError(
                expected=f'a body {pattern} in {file} to bear the weight of',
                found=', '.join(body.name for body in spec.bodies if body.name),
                remedy='mend `compensate_gravity` of the scene file',
            )
        for body in bodies:
            body.gravcomp = 1.0
