"""The state of the recorded episode, and operator actions as marks."""

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
    """A mark that the recorder writes: start, end, label or discard of an episode."""

    kind: MarkKind
    """`label` changes an episode, running or past; `discard` excludes and ends it."""
    index: int
    """Number of the episode, from 0."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Outcome, language and other labels."""


class EpisodeControl:
    """Converts start, stop, label and discard to marks, or raises an error if the action is not possible."""

    def __init__(self, language: str = '') -> None:
        """Start without an episode; ``language`` is the initial instruction."""
        self.language = language
        self.index = -1
        """Number of the running or last episode."""
        self.running = False
        """Whether an episode runs."""
        self.outcomes: Counter[str] = Counter()
        """Number of episodes by outcome: success, failure, discarded, or unlabelled."""
        self.own = False
        """Whether the last episode was started by this recorder, not by a mark of another node."""
        self._last: str | None = None

    def act(self, action: str, text: str = '') -> tuple[Mark | None, str]:
        """Execute an operator action; return its mark, if any, and a response text.

        Parameters
        ----------
        action
            `start`, `stop`, `toggle` (start or stop), `success`, `failure` (of the running episode, or a correction of
            the last one), `discard` or `label`.
        text
            The label.

        Raises
        ------
        InterfaceError
            The action is not possible in this state.

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
            An episode is running.

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
        """End the running episode, as a success, a failure, or without outcome.

        Raises
        ------
        InterfaceError
            No episode is running.

        """
        if not self.running:
            raise InterfaceError(expected='a running episode', found='none', remedy='start one first')
        self.running = False
        self._count(outcome or 'unlabelled')
        labels = {'outcome': outcome} if outcome else {}
        return Mark('end', self.index, labels | ({'language': self.language} if self.language else {}))

    def discard(self) -> Mark:
        """Discard the running episode, or the last one if none is running.

        Raises
        ------
        InterfaceError
            There is no episode, or the episode is already discarded.

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
        """Set ``key=value``, or a language instruction, for the running or last episode.

        The instruction is also valid for later episodes. Returns None if there is no episode yet.
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

    def on_mark(self, kind: str, index: int) -> None:
        """Process a mark of another node, such as a simulated task."""
        self.index = max(self.index, index)
        self.running, self.own = kind == 'start', False
        self._last = None

    def _count(self, outcome: str) -> None:
        if self._last is not None:
            self.outcomes[self._last] -= 1
        self.outcomes[outcome] += 1
        self._last = outcome


class PreRoll:
    """Passes messages while an episode runs, and buffers those before its start.

    Operators start late: the time before the start belongs to the episode.
    """

    def __init__(self, seconds: float, always: Container[str] = ()) -> None:
        """Buffer a duration before an episode [s], and the same again for the initial state of streams.

        Messages of the topics ``always`` always pass: they are published once and stay valid.
        """
        self._length = round(seconds * 1e9)
        self._always = always
        self._kept: deque[Stamped] = deque()
        self.open = False
        """Whether messages pass to the bag."""

    def take(self, message: Stamped) -> Iterator[Stamped]:
        """Process a message: yield it while an episode runs, otherwise buffer it for the next start."""
        if self.open or message.topic in self._always:
            yield message
            return
        self._kept.append(message)
        while self._kept[0].stamp < message.stamp - 2 * self._length - 1_000_000_000:
            self._kept.popleft()

    def start(self, mark: Stamped, *, early: bool) -> Iterator[Stamped]:
        """Start passing, and yield the buffered messages, with the start mark ``early`` or at its own time."""
        self.open = True
        begin = mark.stamp - self._length * early
        # Not before the first known message, because an episode needs a first observation.
        begin = max(begin, min((message.stamp for message in self._kept), default=mark.stamp))
        kept, self._kept = self._kept, deque()
        yield from (message for message in kept if message.stamp < begin)
        yield mark._replace(stamp=begin)
        yield from (message for message in kept if message.stamp >= begin)

    def stop(self) -> None:
        """Stop passing messages."""
        self.open = False
