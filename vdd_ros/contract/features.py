"""What a contract says of one stream of messages: where it is, which numbers it gives, and when they count."""

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
"""What one of each unit is in SI units."""


class Frozen(BaseModel):
    """A part of a contract: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra='forbid')


class Alignment(Frozen):
    """Which message stands for a stream at a tick. Never one from after the tick: the live policy has none of those."""

    method: Literal['hold', 'nearest', 'interpolate'] = 'hold'
    """`hold`: the newest. `nearest`: that which is nearest to the tick less `delay`. `interpolate`: on the line between
    the two around the tick less `delay`, so that both are known by the tick."""
    max_age: Annotated[float, Field(gt=0)] | None = None
    """Age over which a message no longer stands for the stream [s]; a tick without one is no tick to learn from."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """How far from the wanted instant `nearest` may go [s]."""
    delay: Annotated[float, Field(ge=0)] = 0.0
    """How far behind the tick `nearest` and `interpolate` look [s]; about one period of the stream."""
    latency: Annotated[float, Field(ge=0)] = 0.0
    """How long after its stamp a message counts as known [s]: at least what its way to the policy takes, so that the
    bag shows a tick nothing that the live policy would still be waiting for."""

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
    """How the messages of one topic become numbers: what all kinds of streams have in common."""

    unit: Literal['si', 'degree', 'millimeter', 'centimeter', 'gram', 'percent'] = 'si'
    """What the message counts in; everything inside is in SI units and radians."""
    sign: Numbers = (1.0,)
    """1 or -1: one for all numbers, or one for each."""
    scale: Numbers = (1.0,)
    """Factor, as for a gripper that says 0 to 255: one for all numbers, or one for each."""
    offset: Numbers = (0.0,)
    """Added last, in SI units: one for all numbers, or one for each."""
    stamp: Literal['header', 'receive'] | None = None
    """When a message counts: `header`, when it was measured; `receive`, when it arrived. Left out: `header` where the
    type has one."""
    align: Annotated[Alignment, BeforeValidator(lambda value: _method(value))] = Alignment()
    """Which message stands for the stream at a tick."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """How often messages are expected [Hz]; what `vdd contract check` compares with."""

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
    """How the joints of the arm are read from a topic of `topics`; in v1 always the defaults."""

    type: Annotated[str, BeforeValidator(types.full_name)] | None = None
    """Left out: sensor_msgs/msg/JointState for what is measured, std_msgs/msg/Float64MultiArray for commands."""
    names: tuple[str, ...] = ()
    """The joints' names in the messages, in the order of `robot.joints`, if they differ from those."""
    fields: tuple[str, ...] = ()
    """Of a type without joint names: where the numbers are, one for each joint, such as `data[0:7]`."""
    source: Literal['topic', 'measured'] = 'topic'
    """Only of commands. `measured`: nothing was recorded of them; the next measured state counts as the command."""
    quantity: Literal['position', 'velocity'] = 'position'
    """Only of commands: whether they say where to be or how fast to go."""


class Image(Frozen):
    """What becomes of a picture: shrunk by averaging, row by row, top left first, colours last."""

    height: Annotated[int, Field(ge=1, le=256)]
    width: Annotated[int, Field(ge=1, le=256)]
    color: Literal['rgb', 'gray', 'depth']
    """`rgb` and `gray` in [0, 1]; `depth` in metres, 0 where it is unknown."""

    @property
    def size(self) -> int:
        """How many numbers it makes."""
        return self.height * self.width * (3 if self.color == 'rgb' else 1)


class TopicFeature(Reading):
    """A part of the observation or of the action that is read from a topic of its own."""

    name: str
    """What the feature is called in reports."""
    topic: str
    """Where it is said."""
    type: Annotated[str, BeforeValidator(types.full_name)]
    """Message type, such as geometry_msgs/msg/WrenchStamped."""
    fields: tuple[str, ...] = ()
    """Paths of the numbers in the message: `wrench.force.x`, a whole `wrench.force`, `data[2]`, `data[0:7]`; of joint
    states, `position`, `velocity`, `effort`. Left out: all that the type is for."""
    joints: tuple[str, ...] = ()
    """Of joint states and trajectories: whose numbers, by name."""
    frames: tuple[str, ...] = ()
    """Of transforms: the chain of frames from the one that the pose is told in to the one that it is of."""
    image: Image | None = None
    """Of images: what they are shrunk to."""
    points: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Of point clouds: how many points are kept, evenly spread over the cloud [m]."""
    rotation: Literal['quaternion', '6d'] = '6d'
    """What an orientation becomes: x y z w with w not negative, or the first two columns of its matrix (Zhou et al.,
    CVPR 2019), which has no jumps to learn."""
    mode: ActionMode | None = None
    """Only of an action: as `action_mode`, for this feature alone."""
    source: Literal['topic'] = 'topic'
    space: Literal['topic'] = 'topic'
    axes: tuple[Axis, ...] = ()

    @model_validator(mode='before')
    @classmethod
    def _stamped_as_its_type(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get('stamp') is None and isinstance(values.get('type'), str):
            stamped = types.has_header(types.full_name(values['type']))
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
