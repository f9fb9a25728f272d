"""What a scene file says: a model, what is mounted on it, its controllers, sensors and cameras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.common.yaml_file import read_document

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
    armature: Annotated[float, Field(ge=0)] | None = None
    """Inertia of the motor beyond its gear [kg m^2] or [kg]; None: as in the model. Light links shake without any."""


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


Controller = Annotated[Position | TrajectoryFollower | Gripper, Field(discriminator='type')]
Sensor = Annotated[ForceTorque | Imu | Contacts | Pose, Field(discriminator='type')]


class SceneSettings(Settings):
    """What a scene file says."""

    model: str = ''
    """MJCF or URDF file, from the folder of the scene file; or the name of a model that ships. Empty: the task's."""
    timestep: Annotated[float, Field(gt=0, le=0.1)] | None = None
    """Physics timestep [s], in place of the model's."""
    srdf: str = ''
    """SRDF file of a URDF, from the folder of the scene file: links paired by ``disable_collisions`` do not collide."""
    exclude: tuple[tuple[str, str], ...] = ()
    """Pairs of bodies that do not collide with each other; ``*`` and ``?`` stand for any characters."""
    without_collision: tuple[str, ...] = ()
    """Links of a URDF whose collision shapes are left out, such as meshes that MuJoCo cannot read; ``*`` and ``?``."""
    missing_mass: Annotated[float, Field(gt=0)] | None = None
    """Mass of every moving link of a URDF without an inertia [kg]: a ball of 5 cm radius at its origin. None: the
    collision shapes of such a link weigh as much as water, and a servo that moves nothing needs an `armature`."""
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
    known = ', '.join(sorted(other.stem for other in share_path('config', 'scenes').glob('*.yaml')))
    document = read_document(file, 'a scene file', remedy=f'give its path, or one of {known}')
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
            remedy='correct that entry; docs/simulation.md lists what can be said',
        ) from error
    built = [name for name in _BUILT if name in settings.model_fields_set]
    if built and not settings.model:
        raise ConfigurationError(
            expected=f'a model in {file}',
            found=f'none, but {", ".join(built)}',
            remedy='name the model that they change',
        )
    return settings, file.parent
