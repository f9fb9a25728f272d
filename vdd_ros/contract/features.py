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
    """`hold`: the last message before the tick. `nearest`: the message nearest to the tick minus `delay`.
    `interpolate`: linear interpolation between the two messages around the tick minus `delay`."""
    max_age: Annotated[float, Field(gt=0)] | None = None
    """Maximum message age [s]. Ticks with only older messages are excluded from training; the live arm holds."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """Maximum distance of the `nearest` message from the tick minus `delay` [s]."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """Delay of `nearest` and `interpolate` behind the tick [s], about one period of the stream."""
    latency: Annotated[float, Field(ge=0)] = 0.0
    """Time from the stamp of a message until the message is available to the policy [s]. Choose at least the transport
    delay, so training uses no message that the live policy would not have yet. `vdd contract check` reports the
    measured latency."""

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
        """Total factor on the numbers of a message: one for all numbers, or one for each."""
        size = max(len(self.sign), len(self.scale))
        signs, scales = (item if len(item) > 1 else item * size for item in (self.sign, self.scale))
        return tuple(sign * scale * UNITS[self.unit] for sign, scale in zip(signs, scales))

    def unfit(self, size: int) -> str | None:
        """Return which of sign, scale and offset has neither 1 nor ``size`` values; None if all of them fit."""
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


Share = Annotated[float, Field(ge=0, le=1)]


class Image(Frozen):
    """Size and colour of an image feature.

    In version 3 an image is an array, separate from the observation vector: uint8 for colours, int16 [mm] for depth.
    In versions 1 and 2 its pixels are values of the observation vector, row-major, colours last.
    """

    height: Annotated[int, Field(ge=1, le=1024)]
    """Rows after reduction [pixels]; at most 256 before version 3."""
    width: Annotated[int, Field(ge=1, le=1024)]
    """Columns after reduction [pixels]; at most 256 before version 3."""
    color: Literal['rgb', 'gray', 'depth']
    """`rgb` and `gray` in [0, 1]. `depth` in metres, 0 where unknown."""
    crop: tuple[Share, Share, Share, Share] | None = None
    """Part of the camera's image that is used: top, left, height and width as shares of the image, such as
    `[0, 0.125, 1, 0.75]` for the central square of 4:3. Default: the whole image. Since version 3."""
    resize: Literal['stretch', 'cover'] = 'stretch'
    """Reduction by averaging. `stretch`: the whole crop, at any aspect ratio. `cover`: the largest central part of the
    crop that has the aspect ratio of `width` and `height`. Since version 3."""

    @model_validator(mode='after')
    def _crop_lies_within(self) -> Image:
        if self.crop is not None:
            top, left, height, width = self.crop
            if not (height and width) or top + height > 1 + 1e-9 or left + width > 1 + 1e-9:
                raise ValueError('crop is top, left, height and width within an image of height 1 and width 1')
        return self

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 3 if self.color == 'rgb' else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels."""
        return self.height, self.width, self.channels

    @property
    def size(self) -> int:
        """Number of values of the image."""
        return self.height * self.width * self.channels

    def window(self, rows: int, columns: int) -> tuple[int, int, int, int]:
        """Return the used part of a camera image as first row, first column, number of rows, number of columns."""
        top, left, height, width = self.crop or (0.0, 0.0, 1.0, 1.0)
        first, start = min(int(top * rows), rows - 1), min(int(left * columns), columns - 1)
        high, wide = (
            max(1, min(round(height * rows), rows - first)),
            max(1, min(round(width * columns), columns - start)),
        )
        if self.resize == 'cover':
            kept = min(high, max(1, round(wide * self.height / self.width)))
            side = min(wide, max(1, round(high * self.width / self.height)))
            first, start, high, wide = first + (high - kept) // 2, start + (wide - side) // 2, kept, side
        return first, start, high, wide


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
    """Names of the joints. Only for JointState and JointTrajectory, and for actions whose messages are plain numbers:
    the joints that these numbers command. The joint states measure these joints under the same names."""
    frames: tuple[str, ...] = ()
    """Frame chain, from the reference frame to the target frame. Only for TFMessage. Static transforms come from
    `<topic>_static` and are valid at any time."""
    image: Image | None = None
    """Size and colour after reduction. Only for Image and CompressedImage."""
    points: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Number of points that are kept, evenly distributed over the cloud [m]. Only for PointCloud2. Since version 3 the
    points are an array, separate from the observation vector: int16 [mm], at most 32.767 m from the origin along each
    axis."""
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
                raise ValueError('of a type that is not known here, state whether to `stamp` by header or by receive')
            return {**values, 'stamp': 'header' if stamped else 'receive'}
        return values

    @model_validator(mode='after')
    def _says_which_numbers(self) -> TopicFeature:
        kind = types.kind(self.type)
        for key, wanted in (('joints', 'joints'), ('frames', 'frames'), ('image', 'image'), ('points', 'points')):
            named = key == 'joints' and kind == 'scalars' and bool(types.position_paths(self.type, len(self.joints)))
            if (kind == wanted) != bool(getattr(self, key)) and not named:
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
        if self.joints and len(self.paths) != len(self.joints) * (1 if kind == 'scalars' else len(self.read_fields)):
            raise ValueError(f'{len(self.paths)} numbers in `fields` for {len(self.joints)} joints')
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f'a joint is named twice in {list(self.joints)}')
        turned = any(types.is_orientation(path) for path in self.read_fields)
        plain = (self.unit, self.sign, self.scale, self.offset) == ('si', (1.0,), (1.0,), (0.0,))
        if (turned or kind in ('image', 'frames')) and not plain:
            raise ValueError('unit, sign, scale and offset go with plain numbers: put them into a feature of their own')
        if turned and self.rotation == 'quaternion' and self.align.method == 'interpolate':
            raise ValueError('a quaternion cannot be interpolated number by number: set `rotation: 6d`')
        if unfit := self.unfit(self.size):
            raise ValueError(unfit)
        return self

    @property
    def read_fields(self) -> tuple[str, ...]:
        """The `fields`, or by default the main content of the message type."""
        if self.fields:
            return self.fields
        if self.joints and self.type in types.ARRAYS:
            return (f'data[0:{len(self.joints)}]',)
        return types.default_fields(self.type)

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of every number that is read; for messages with joint names, the field and the index among `joints`."""
        fields = self.read_fields
        if types.kind(self.type) == 'joints':
            return tuple(f'{field}[{place}]' for field in fields for place in range(len(self.joints)))
        return tuple(path for field in fields for path in types.expand(field, self.type))

    @property
    def commands_positions(self) -> bool:
        """Whether the feature, as an action, commands joint positions.

        For messages with joint names, it must read the field `position` alone. For arrays, it must read the numbers
        from `data[0]` on without gaps, in any order and each number only once. For other messages, it must read the one
        position.
        """
        if types.kind(self.type) == 'joints':
            return self.read_fields == ('position',)
        wanted = types.position_paths(self.type, self.size)
        return bool(wanted) and sorted(self.paths) == sorted(wanted)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of an image; for a point cloud the number of points, 1 and 3."""
        return self.image.shape if self.image is not None else (self.points or 0, 1, 3)

    @property
    def is_distance(self) -> bool:
        """Whether the array contains distances, int16 [mm], as depth images and point clouds do."""
        return self.points is not None or (self.image is not None and self.image.color == 'depth')

    @property
    def size(self) -> int:
        """Number of values of the feature."""
        turned = 6 if self.rotation == '6d' else 4
        if self.frames:
            return 3 + turned
        if self.image is not None:
            return self.image.size
        if self.points is not None:
            return 3 * self.points
        quaternions = sum(types.is_orientation(field) for field in self.read_fields)
        return len(self.paths) + quaternions * (turned - 4)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, (int, float)) else value


def _method(value: Any) -> Any:
    return {'method': value} if isinstance(value, str) else value
