"""What tells demonstrations apart in a bag, and what says how they went."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from vdd_ros.contract import message_types as types
from vdd_ros.contract.features import Frozen

Seconds = Annotated[float, Field(gt=0)]


class Signal(Frozen):
    """One value of one topic: a button, a flag, a word."""

    topic: str
    """Where it is said."""
    type: Annotated[str, BeforeValidator(types.full_name)]
    """Message type, such as std_msgs/msg/Bool."""
    field: str = 'data'
    """Path of the value in the message, such as `buttons[3]`."""
    stamp: Literal['header', 'receive'] | None = None
    """When it counts. Left out: by the header where the type has one."""

    @property
    def by_header(self) -> bool:
        """Whether it counts from the stamp of its header on."""
        return self.stamp == 'header' or (self.stamp is None and bool(types.has_header(self.type)))


class Episodes(Frozen):
    """How a bag is cut into demonstrations."""

    by: Literal['marks', 'topic', 'button', 'gaps', 'motion', 'bag'] = 'marks'
    """`marks`: the recorder's own, on `topics.episode`. `topic`: while `signal` is on. `button`: from press to press of
    `signal`. `gaps`: wherever joint states pause. `motion`: from when the arm starts to move until it rests. `bag`: the
    whole bag is one."""
    signal: Signal | None = None
    """The topic or the button. A number is on while it is not 0, and another number is another episode; a word is on
    unless it is one of `idle`."""
    idle: tuple[str, ...] = ('', 'end', 'stop', 'idle', 'false', '0')
    """The words that say that no episode runs."""
    discard: Signal | None = None
    """A button that throws the running episode away, or the last one if none runs."""
    gap: Seconds = 1.0
    """By gaps: how long a pause ends an episode [s]."""
    speed: Seconds = 0.02
    """By motion: how fast some joint must be for the arm to count as moving [rad/s]."""
    rest: Seconds = 1.0
    """By motion: how long the arm must rest for the episode to be over [s]."""
    shortest: Annotated[float, Field(ge=0)] = 0.0
    """Shorter episodes are left out [s]."""
    outcome: Signal | None = None
    """What says whether an episode succeeded: the last value from its start until the next one's."""
    success: tuple[str, ...] = ('success', 'succeeded', 'true', '1', '1.0')
    """The outcomes that are a success."""
    language: Signal | None = None
    """What says in words what is demonstrated: the newest value by the end of the episode."""
    stale: Literal['split', 'drop'] = 'split'
    """What becomes of an episode with ticks for which some stream has no message that is young enough: it is split
    there, or dropped."""

    @model_validator(mode='after')
    def _signal_where_it_is_needed(self) -> Episodes:
        if (self.by in ('topic', 'button')) != (self.signal is not None):
            raise ValueError('signal goes with `by: topic` and `by: button`, and only with them')
        return self
