"""The scene file: model, attachments, controllers, sensors and cameras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.common.yaml_file import read_document

Rate = Annotated[float, Field(gt=0, le=10_000)]
Joints = Annotated[tuple[str, ...], Field(min_length=1)]


class Attachment(Settings):
    """Another model attached to the first: a gripper, a table, an object."""

    model: str
    """MJCF file, relative to the scene file, or the name of a shipped model."""
    to: str = ''
    """Site or body to attach to; empty: the world."""
    prefix: str = ''
    """Prefix for the names of the model's elements, to make them unique."""
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Position in the frame of the body [m]; not for a site, which defines the position."""


class Servos(Settings):
    """Position servos on joints; they replace the actuators of these joints in the model."""

    joints: Joints
    """Joints of the model; each servo has the name of its joint."""
    stiffness: Annotated[float, Field(gt=0)]
    """Stiffness [N m/rad] or [N/m]."""
    damping: Annotated[float, Field(ge=0)]
    """Damping [N m s/rad] or [N s/m]."""
    force: Annotated[float, Field(gt=0)] | None = None
    """Maximum torque [N m] or force [N]; None: unlimited."""
    armature: Annotated[float, Field(ge=0)] | None = None
    """Motor inertia after the gear [kg m^2] or [kg]; None: as in the model. Light links oscillate without it."""


class Position(Settings):
    """Subscribes to ``NAME/commands`` (std_msgs/Float64MultiArray), like forward_command_controller."""

    type: Literal['position']
    joints: Joints
    """The controlled joints, in the order of the commands."""
    active: bool = True
    """Whether it is active at the start."""


class TrajectoryFollower(Settings):
    """Subscribes to ``NAME/joint_trajectory`` (trajectory_msgs/JointTrajectory), like joint_trajectory_controller."""

    type: Literal['trajectory']
    joints: Joints
    """The controlled joints."""
    active: bool = True
    """Whether it is active at the start."""
    allow_partial_joints_goal: bool = False
    """Whether a goal may omit joints."""
    interpolate_from_desired_state: bool = False
    """Whether a trajectory begins at the last command instead of the measurement."""
    allow_nonzero_velocity_at_trajectory_end: bool = False
    """Whether the last point may have a velocity."""


class Gripper(Settings):
    """Subscribes to ``NAME/commands`` (std_msgs/Float64MultiArray): one value, the opening [m]."""

    type: Literal['gripper']
    actuators: Annotated[Mapping[str, tuple[float, float]], Field(min_length=1)]
    """Actuators of the model, each with its control when closed and when open."""
    stroke: Annotated[float, Field(gt=0)]
    """Maximum opening [m]."""
    active: bool = True
    """Whether it is active at the start."""


class ForceTorque(Settings):
    """Publishes ``NAME/wrench`` (geometry_msgs/WrenchStamped): the load on a site from the links beyond it."""

    type: Literal['force_torque']
    site: str
    """Site at which, and in whose axes, the load is measured; the sensor is part of its body."""
    rate: Rate = 100.0
    """Measurement rate [Hz]."""


class Imu(Settings):
    """Publishes ``NAME/imu`` (sensor_msgs/Imu)."""

    type: Literal['imu']
    site: str
    """Site at which, and in whose axes, motion is measured."""
    rate: Rate = 100.0
    """Measurement rate [Hz]."""


class Contacts(Settings):
    """Publishes ``NAME/contacts`` (visualization_msgs/MarkerArray): an arrow for each contact, with its force [N]."""

    type: Literal['contacts']
    geoms: tuple[str, ...] = ('*',)
    """Only contacts of at least one of these geoms are published; ``*`` and ``?`` are wildcards."""
    rate: Rate = 50.0
    """Measurement rate [Hz]."""


class Pose(Settings):
    """Publishes ``NAME/pose`` (geometry_msgs/PoseStamped): the pose of a body or site in the world."""

    type: Literal['pose']
    of: str
    """Name of the body or site."""
    rate: Rate = 50.0
    """Measurement rate [Hz]."""


class Camera(Settings):
    """Publishes ``NAME/image_raw``, ``camera_info`` and ``pose``, optionally ``depth/...`` and ``points``."""

    camera: str = ''
    """Camera of the model; by default the camera with the name of this entry."""
    width: Annotated[int, Field(ge=1, le=8192)] = 640
    """Width of the images [pixels]."""
    height: Annotated[int, Field(ge=1, le=8192)] = 480
    """Height of the images [pixels]."""
    rate: Rate = 10.0
    """Rate of the images [Hz]."""
    depth: bool = False
    """Whether depth images are published."""
    points: bool = False
    """Whether point clouds are published."""
    stride: Annotated[int, Field(ge=1, le=64)] = 2
    """Every n-th pixel of every n-th row becomes a point."""


Controller = Annotated[Position | TrajectoryFollower | Gripper, Field(discriminator='type')]
Sensor = Annotated[ForceTorque | Imu | Contacts | Pose, Field(discriminator='type')]


class SceneSettings(Settings):
    """The content of a scene file."""

    model: str = ''
    """MJCF or URDF file, relative to the scene file, or the name of a shipped model. Empty: the model of the task."""
    timestep: Annotated[float, Field(gt=0, le=0.1)] | None = None
    """Physics timestep [s]; default: the timestep of the model."""
    srdf: str = ''
    """SRDF file of a URDF, relative to the scene file: pairs with ``disable_collisions`` do not collide."""
    exclude: tuple[tuple[str, str], ...] = ()
    """Pairs of bodies that do not collide; ``*`` and ``?`` are wildcards."""
    without_collision: tuple[str, ...] = ()
    """Links of a URDF whose collision shapes are removed, such as meshes that MuJoCo cannot read; ``*`` and ``?`` are
    wildcards."""
    missing_mass: Annotated[float, Field(gt=0)] | None = None
    """Mass of every moving URDF link without inertia [kg]: a ball of 5 cm radius at its origin. None: such links get
    the mass of their collision shapes at the density of water, and servos without a load need an `armature`."""
    attachments: tuple[Attachment, ...] = ()
    """Attached models, in this order."""
    servos: tuple[Servos, ...] = ()
    """Servos missing in the model. They require ``implicitfast`` integration, which replaces Euler integration."""
    compensate_gravity: tuple[str, ...] = ()
    """Bodies with gravity compensation; ``*`` and ``?`` are wildcards."""
    keyframe: str = ''
    """Keyframe of every reset; empty: the initial state of the model."""
    start: Mapping[str, float] = {}
    """Start positions of joints, where they differ from the keyframe [rad] or [m]."""
    joint_states: tuple[str, ...] = ()
    """Joints that are published in addition to those of the controllers, such as fingers."""
    command_rate: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """Command rate in lockstep [Hz]; a task uses its policy rate."""
    controllers: Mapping[str, Controller] = {}
    """Controllers by name."""
    sensors: Mapping[str, Sensor] = {}
    """Sensors by name."""
    cameras: Mapping[str, Camera] = {}
    """Cameras by name."""


_BUILT = (
    'timestep',
    'srdf',
    'exclude',
    'without_collision',
    'missing_mass',
    'attachments',
    'servos',
    'compensate_gravity',
    'keyframe',
    'start',
)


def load_scene(path: str | Path) -> tuple[SceneSettings, Path]:
    """Read a scene file; return its content, and the folder to which its paths are relative.

    Parameters
    ----------
    path
        A file, or the name of a scene in ``config/scenes``; empty: default settings.

    Raises
    ------
    ConfigurationError
        The file is missing, is not valid YAML, or has an invalid entry. The message names the line of the entry.

    """
    if not str(path):
        return SceneSettings(), Path()
    file = Path(path)
    if not file.suffix:
        file = share_path('config', 'scenes', f'{path}.yaml')
    known = ', '.join(sorted(other.stem for other in share_path('config', 'scenes').glob('*.yaml')))
    document = read_document(file, 'a scene file', remedy=f'give its path, or one of {known}')
    settings = SceneSettings.parse(document.values, document)
    built = [name for name in _BUILT if name in settings.model_fields_set]
    if built and not settings.model:
        raise ConfigurationError(
            expected=f'a model in {file}',
            found=f'none, with {", ".join(built)}',
            remedy='add the model that these entries change',
        )
    return settings, file.parent
