"""Division of a bag into demonstrations, and their outcomes and instructions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from vdd_ros.contract import message_types as types
from vdd_ros.contract.features import Frozen

Seconds = Annotated[float, Field(gt=0)]


class Signal(Frozen):
    """A message field that marks or describes episodes: a button, a flag, a word."""

    topic: str
    """Name of the topic."""
    type: Annotated[str, BeforeValidator(types.full_name)]
    """Message type, such as std_msgs/msg/Bool."""
    field: str = 'data'
    """Path of the value in the message, such as `buttons[3]`."""
    stamp: Literal['header', 'receive'] | None = None
    """Time of a message. Default: `header` if the type has a header, otherwise `receive`."""

    @property
    def by_header(self) -> bool:
        """Whether the header stamp is the time of a message; otherwise the time of reception is."""
        return self.stamp == 'header' or (self.stamp is None and bool(types.has_header(self.type)))


class Episodes(Frozen):
    """How a bag is divided into demonstrations, and which of them are successes."""

    by: Literal['marks', 'topic', 'button', 'gaps', 'motion', 'bag'] = 'marks'
    """`marks`: from start to end mark on `topics.episode`, as the recorder and the simulated arm publish them. Later
    labels and discards apply. `topic`: while `signal` is on. `button`: from one press of `signal` to the next. `gaps`:
    between two pauses of the joint states longer than `gap`. `motion`: from the time when a joint is faster than
    `speed` until all joints rest for `rest`. `bag`: the whole bag is one demonstration."""
    signal: Signal | None = None
    """Topic for `by: topic`, button for `by: button`. A number is on while it is not 0; a different number starts
    another episode. A word is on unless it is one of `idle`."""
    idle: tuple[str, ...] = ('', 'end', 'stop', 'idle', 'false', '0')
    """Words that mean that no episode runs."""
    discard: Signal | None = None
    """Button that discards the running episode, or the last one if none runs."""
    gap: Seconds = 1.0
    """Duration of a pause that ends an episode [s]. Only for `by: gaps`."""
    speed: Seconds = 0.02
    """Joint speed above which the arm moves [rad/s]. Only for `by: motion`."""
    rest: Seconds = 1.0
    """Duration of rest that ends an episode [s]. Only for `by: motion`."""
    shortest: Annotated[float, Field(ge=0)] = 0.0
    """Minimum duration of an episode [s]. Shorter episodes are excluded."""
    outcome: Signal | None = None
    """Value that reports the outcome: the last message from the start of an episode until the start of the next."""
    success: tuple[str, ...] = ('success', 'succeeded', 'true', '1', '1.0')
    """Outcomes that count as success. Failed episodes are excluded from training."""
    language: Signal | None = None
    """Value with the instruction in words: the last message before the end of the episode."""
    stale: Literal['split', 'drop'] = 'split'
    """Treatment of an episode that has ticks without a valid message of some stream: the episode is split at these
    ticks, or dropped."""

    @model_validator(mode='after')
    def _signal_where_it_is_needed(self) -> Episodes:
        if (self.by in ('topic', 'button')) != (self.signal is not None):
            raise ValueError('signal goes with `by: topic` and `by: button`, and only with them')
        return self
