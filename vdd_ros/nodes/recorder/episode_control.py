"""Which episode is being recorded, and what a person says of it: the marks in the bag, as values."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from vdd_ros.common.errors import InterfaceError
from vdd_ros.nodes.recorder.causal_order import Stamped

MarkKind = Literal['start', 'end', 'label', 'discard']


@dataclass(frozen=True)
class Mark:
    """What is said of an episode at one moment."""

    kind: MarkKind
    """`label` amends an episode, running or past; `discard` says that it is no demonstration, and ends it."""
    index: int
    """Number of the episode, from 0."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Outcome, language and whatever else is known of it."""


class EpisodeControl:
    """Answers start, stop, label and discard by marks, or by what is wrong with asking for it now."""

    def __init__(self, language: str = '') -> None:
        """Begin without an episode; ``language`` is the instruction of all that follow, until another is given."""
        self.language = language
        self.index = -1
        """Number of the episode that runs or ran last."""
        self.running = False
        """Whether one runs."""
        self.outcomes: Counter[str] = Counter()
        """How many ended in which way: success, failure, discarded, or unlabelled."""
        self.own = False
        """Whether the newest episode was started here, and not by somebody on the wire."""
        self._last: str | None = None

    def act(self, action: str, text: str = '') -> tuple[Mark | None, str]:
        """Do what a person asks for; return the mark that says it, if there is one, and what to answer.

        Parameters
        ----------
        action
            `start`, `stop`, `toggle` (whichever of both makes sense), `success`, `failure` (of the running episode, or
            amended to the last), `discard` or `label`.
        text
            What to label with.

        Raises
        ------
        InterfaceError
            It makes no sense now.

        """
        if action == 'toggle':
            action = 'stop' if self.running else 'start'
        if action == 'start':
            return self.start(), f'episode {self.index} started'
        if action == 'discard':
            return self.discard(), f'episode {self.index} discarded'
        if action in ('success', 'failure') and not self.running and self.index >= 0:
            action, text = 'label', f'outcome={action}'
        if action == 'label':
            mark = self.label(text)
            return mark, f'{text}: of episode {self.index}' if mark else f'{text}: from the first episode on'
        outcome = '' if action == 'stop' else action
        return self.stop(outcome), f'episode {self.index} ended' + f' as a {outcome}' * bool(outcome)

    def start(self) -> Mark:
        """Begin an episode.

        Raises
        ------
        InterfaceError
            One runs already.

        """
        if self.running:
            raise InterfaceError(
                expected='no running episode', found=f'episode {self.index}', remedy='stop or discard it first'
            )
        self.index += 1
        self.running = self.own = True
        self._last = None
        return Mark('start', self.index, {'language': self.language} if self.language else {})

    def stop(self, outcome: str = '') -> Mark:
        """End the running episode, as a success, a failure, or without saying.

        Raises
        ------
        InterfaceError
            None runs.

        """
        if not self.running:
            raise InterfaceError(expected='a running episode', found='none', remedy='start one first')
        self.running = False
        self._count(outcome or 'unlabelled')
        labels = {'outcome': outcome} if outcome else {}
        return Mark('end', self.index, labels | ({'language': self.language} if self.language else {}))

    def discard(self) -> Mark:
        """Throw the running episode away, or the last one if none runs.

        Raises
        ------
        InterfaceError
            There is none, or it is discarded already.

        """
        if self.index < 0 or self._last == 'discarded':
            raise InterfaceError(
                expected='an episode to discard',
                found='none yet' if self.index < 0 else f'episode {self.index} discarded already',
                remedy='start one first',
            )
        self.running = False
        self._count('discarded')
        return Mark('discard', self.index, {'reason': 'discarded by the operator'})

    def label(self, text: str) -> Mark | None:
        """Take in ``key=value``, or an instruction in words, for the running episode or the last one.

        The instruction also holds for the episodes to come. Returns None where there is no episode to label yet.
        """
        key, equals, value = text.partition('=')
        key, value = key.strip(), value.strip()
        if not (equals and key.isidentifier()):
            key, value = 'language', text.strip()
        if key == 'language':
            self.language = value
        if self.index < 0:
            return None
        if key == 'outcome' and not self.running and self._last != 'discarded':
            self._count(value or 'unlabelled')
        return Mark('label', self.index, {key: value})

    def heard(self, kind: str, index: int) -> None:
        """Note a mark that somebody else made: a task in simulation marks its own episodes."""
        self.index = max(self.index, index)
        self.running, self.own = kind == 'start', False
        self._last = None

    def _count(self, outcome: str) -> None:
        if self._last is not None:
            self.outcomes[self._last] -= 1
        self.outcomes[outcome] += 1
        self._last = outcome


class PreRoll:
    """Lets messages through while an episode runs, and keeps the last moments before one ready.

    A person starts late: what happened in the moments before belongs to the episode.
    """

    def __init__(self, seconds: float, always: Container[str] = ()) -> None:
        """Keep so much before an episode [s], and as much again, which says where things stood when it began.

        Messages of the topics ``always`` pass at any time: they are said once and hold for ever.
        """
        self._length = round(seconds * 1e9)
        self._always = always
        self._kept: deque[Stamped] = deque()
        self.open = False
        """Whether messages pass."""

    def take(self, message: Stamped) -> Iterator[Stamped]:
        """Yield what is to be written now."""
        if self.open or message.topic in self._always:
            yield message
            return
        self._kept.append(message)
        while self._kept[0].stamp < message.stamp - 2 * self._length - 1_000_000_000:
            self._kept.popleft()

    def start(self, mark: Stamped, *, early: bool) -> Iterator[Stamped]:
        """Open, and yield what was kept, with the mark of the start in its place: ``early``, or where it was set."""
        self.open = True
        begin = mark.stamp - self._length * early
        # Never before the first thing that is known: an episode that begins with nothing has no first observation.
        begin = max(begin, min((message.stamp for message in self._kept), default=mark.stamp))
        kept, self._kept = self._kept, deque()
        yield from (message for message in kept if message.stamp < begin)
        yield mark._replace(stamp=begin)
        yield from (message for message in kept if message.stamp >= begin)

    def stop(self) -> None:
        """Close."""
        self.open = False
