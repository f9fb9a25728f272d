"""Decoding of one stream of messages: its topic, its numbers, and the times at which they are valid."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vdd_ros.contract import message_types as types

Axis = Literal['x', 'y', 'z']
ActionMode = Literal['delta', 'absolute', 'velocity']
Numbers = Annotated[tuple[float, ...], BeforeValidator(lambda value: _listed(value))]

UNITS = {
    'si': 1.0,
    'degree': 3.141592653589793 / 180,
    'millimeter': 1e-3,
    'centimeter': 1e-2,
    'gram': 1e-3,
    'percent': 1e-2,
}
"""Factor from each unit to SI units."""


class Frozen(BaseModel):
    """A part of a contract: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra='forbid')


class Alignment(Frozen):
    """Selection of the message that represents a stream at a tick. Messages after the tick are never used."""

    method: Literal['hold', 'nearest', 'interpolate'] = 'hold'
    """`hold`: the newest message. `nearest`: the message nearest to the tick minus `delay`. `interpolate`: linear
    interpolation between the two messages around the tick minus `delay`."""
    max_age: Annotated[float, Field(gt=0)] | None = None
    """Maximum message age [s]. Ticks with only older messages are excluded from training; the live arm holds."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """Maximum distance of the `nearest` message from the wanted time [s]."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """Delay of `nearest` and `interpolate` behind the tick [s], about one period of the stream."""
    latency: Annotated[float, Field(ge=0)] = 0.0
    """Time from the stamp of a message until it is available to the policy [s]. At least the transport delay, so that
    training uses no message that the live policy would not have yet. `vdd contract check` reports the measured one."""

    @model_validator(mode='after')
    def _goes_together(self) -> Alignment:
        if (self.method == 'nearest') != (self.tolerance is not None):
            raise ValueError('tolerance goes with `method: nearest`, and only with it')
        if self.method == 'hold' and self.delay:
            raise ValueError('delay goes with `method: nearest` or `interpolate`; to delay what is held, set latency')
        if self.method == 'interpolate' and not self.delay:
            raise ValueError('interpolating needs a delay: the next message must be there by the tick')
        return self


class Reading(Frozen):
    """Conversion of the messages of one topic to numbers, common to all kinds of streams."""

    unit: Literal['si', 'degree', 'millimeter', 'centimeter', 'gram', 'percent'] = 'si'
    """Unit of the message. All values inside the package are in SI units and radians."""
    sign: Numbers = (1.0,)
    """1 or -1, one for all numbers or one for each."""
    scale: Numbers = (1.0,)
    """Factor, for example for a gripper that reports 0 to 255. One for all numbers or one for each."""
    offset: Numbers = (0.0,)
    """Added last, in SI units: value = sign x scale x unit x number + offset. One for all numbers or one for each."""
    stamp: Literal['header', 'receive'] | None = None
    """Time of a message: `header` (time of measurement) or `receive` (time of arrival). Default: `header` if the type
    has a header. Required for message types outside the standard ROS packages."""
    align: Annotated[Alignment, BeforeValidator(lambda value: _method(value))] = Alignment()
    """Selection of the message at a tick."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Expected message rate [Hz]. `vdd contract check` compares it with the bag."""

    @property
    def factor(self) -> tuple[float, ...]:
        """What the numbers of a message are multiplied with: one for all, or one for each."""
        size = max(len(self.sign), len(self.scale))
        signs, scales = (item if len(item) > 1 else item * size for item in (self.sign, self.scale))
        return tuple(sign * scale * UNITS[self.unit] for sign, scale in zip(signs, scales))

    def unfit(self, size: int) -> str | None:
        """Say which of sign, scale and offset is neither one number nor one for each of ``size``; None if all fit."""
        for name in ('sign', 'scale', 'offset'):
            if len(getattr(self, name)) not in (1, size):
                return f'{name} has {len(getattr(self, name))} entries for {size} numbers'
        return None if set(self.sign) <= {1.0, -1.0} else 'sign is 1 or -1'


class JointStream(Reading):
    """Decoding of the joints from `topics.joint_states` or `topics.commands`. Version 1 allows only the defaults."""

    type: Annotated[str, BeforeValidator(types.full_name)] | None = None
    """Message type. Default: JointState for `measured`, Float64MultiArray for `commanded`. Also JointTrajectory (its
    last point), JointState for commands, or any type with `fields`."""
    names: tuple[str, ...] = ()
    """Names of the joints in the messages, in the order of `robot.joints`. Default: `robot.joints`."""
    fields: tuple[str, ...] = ()
    """Paths of the numbers in a type without joint names, one for each joint, such as `data[0:7]`."""
    source: Literal['topic', 'measured'] = 'topic'
    """`measured`: no commands were recorded, and the next measured state is used as the command. Only for commands."""
    quantity: Literal['position', 'velocity'] = 'position'
    """Meaning of the commands. With `velocity` the mode of the action is `velocity`. Only for commands."""


class Image(Frozen):
    """Size and colour of an image feature. Images are reduced by averaging; row-major, colours last."""

    height: Annotated[int, Field(ge=1, le=256)]
    """Rows after reduction [pixels]."""
    width: Annotated[int, Field(ge=1, le=256)]
    """Columns after reduction [pixels]."""
    color: Literal['rgb', 'gray', 'depth']
    """`rgb` and `gray` in [0, 1]. `depth` in metres, 0 where unknown."""

    @property
    def size(self) -> int:
        """How many numbers it makes."""
        return self.height * self.width * (3 if self.color == 'rgb' else 1)


class TopicFeature(Reading):
    """A feature that is decoded from its own topic."""

    name: str
    """Name of the feature in reports and rules."""
    topic: str
    """Name of the topic."""
    type: Annotated[str, BeforeValidator(types.full_name)]
    """Message type. Types of the standard ROS packages by their short name, others as `package/msg/Name`."""
    fields: tuple[str, ...] = ()
    """Paths of the numbers in the message: `wrench.force.x`, a whole `wrench.force` or `pose.orientation`, `data[2]`,
    `data[0:7]`. For joint states: `position`, `velocity`, `effort`. Default: the main content of the type."""
    joints: tuple[str, ...] = ()
    """Names of the joints. Only for JointState and JointTrajectory."""
    frames: tuple[str, ...] = ()
    """Frame chain, from the reference frame to the target frame. Only for TFMessage. Static transforms come from
    `<topic>_static` and are valid at any time."""
    image: Image | None = None
    """Size and colour after reduction. Only for Image and CompressedImage."""
    points: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Number of points that are kept, evenly distributed over the cloud [m]. Only for PointCloud2."""
    rotation: Literal['quaternion', '6d'] = '6d'
    """Representation of an orientation: the first two columns of its rotation matrix (Zhou et al., CVPR 2019), or
    x y z w with w not negative."""
    mode: ActionMode | None = None
    """Overrides `action_mode` for this feature. Only for actions."""
    source: Literal['topic'] = 'topic'
    """Distinguishes topic features from features of the arm. Not set in YAML."""
    space: Literal['topic'] = 'topic'
    """Distinguishes topic features from features of the arm. Not set in YAML."""
    axes: tuple[Axis, ...] = ()
    """Always empty."""

    @model_validator(mode='before')
    @classmethod
    def _stamped_as_its_type(cls, values: Any) -> Any:
        kind = values.get('type') if isinstance(values, dict) else None
        if isinstance(kind, str) and values.get('stamp') is None:
            stamped = types.has_header(str(types.full_name(kind)))
            if stamped is None:
                raise ValueError('of a type that is not known here, say whether to `stamp` by header or by receive')
            return {**values, 'stamp': 'header' if stamped else 'receive'}
        return values

    @model_validator(mode='after')
    def _says_which_numbers(self) -> TopicFeature:
        kind = types.kind(self.type)
        for key, wanted in (('joints', 'joints'), ('frames', 'frames'), ('image', 'image'), ('points', 'points')):
            if (kind == wanted) != bool(getattr(self, key)):
                raise ValueError(f'{self.type} goes {"without" if kind != wanted else "with"} `{key}`')
        if kind == 'frames' and len(self.frames) < 2:
            raise ValueError('a chain has at least two frames')
        if kind == 'frames' and self.align.method != 'hold':
            raise ValueError('transforms can only be held')
        if kind == 'scalars' and not self.paths:
            raise ValueError(f'of {self.type}, say which `fields`')
        if self.stamp == 'header' and types.has_header(self.type) is False:
            raise ValueError(f'{self.type} has no header to stamp by')
        if self.axes:
            raise ValueError('axes go with `space: tool`, and only with it')
        turned = any(types.is_orientation(path) for path in self.fields or types.default_fields(self.type))
        plain = (self.unit, self.sign, self.scale, self.offset) == ('si', (1.0,), (1.0,), (0.0,))
        if (turned or kind in ('image', 'frames')) and not plain:
            raise ValueError('unit, sign, scale and offset go with plain numbers: put them into a feature of their own')
        if turned and self.rotation == 'quaternion' and self.align.method == 'interpolate':
            raise ValueError('a quaternion cannot be interpolated number by number: set `rotation: 6d`')
        if unfit := self.unfit(self.size):
            raise ValueError(unfit)
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Every number that is read, by its path; of joints, by field and place among `joints`."""
        fields = self.fields or types.default_fields(self.type)
        if types.kind(self.type) == 'joints':
            return tuple(f'{field}[{place}]' for field in fields for place in range(len(self.joints)))
        return tuple(path for field in fields for path in types.expand(field))

    @property
    def size(self) -> int:
        """How many numbers the feature has."""
        turned = 6 if self.rotation == '6d' else 4
        if self.frames:
            return 3 + turned
        if self.image is not None:
            return self.image.size
        if self.points is not None:
            return 3 * self.points
        quaternions = sum(types.is_orientation(field) for field in self.fields or types.default_fields(self.type))
        return len(self.paths) + quaternions * (turned - 4)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, (int, float)) else value


def _method(value: Any) -> Any:
    return {'method': value} if isinstance(value, str) else value
