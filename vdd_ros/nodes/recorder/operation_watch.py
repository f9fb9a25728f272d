"""Recording of a policy in operation: interventions, out-of-distribution observations and failures, as episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal['failure', 'intervention', 'out_of_distribution']

_REQUESTED = ('stop was asked for', 'deactivated', 'shut down', 'cleaned up')
_LONGEST = 60.0
"""Maximum duration of an episode of operation [s]."""


class OperationWatch:
    """Converts the diagnostics of a policy node to recorder actions, the arguments of `EpisodeControl.act`.

    An episode begins with an event, and ends a set time after the last event. Time is passed in [s].
    """

    def __init__(self, post_roll: float) -> None:
        """Set the time from the last event to the end of an episode [s]."""
        self._post_roll = post_roll
        self._present: dict[Kind, str] = {}
        self._seen: list[str] = []
        self._began = self._newest = 0.0
        self._failed = self._held = False
        self.recording = False
        """Whether an episode of operation runs."""

    def see(self, values: Mapping[str, str], now: float) -> list[tuple[str, str]]:
        """Process the key-value pairs of a status; return actions with their texts."""
        present = events_of(values)
        new = {kind: text for kind, text in present.items() if self._present.get(kind) != text}
        device = values.get('enabling_device', '')
        if self._held and device != 'held':  # a device that nobody has held yet is no event
            new['intervention'] = device
        self._held, self._present = device == 'held', present
        actions: list[tuple[str, str]] = []
        # An arm that has stopped stays so until a person comes: nothing more is to be seen.
        if new or 'out_of_distribution' in present:
            self._newest = now
        if new and not self.recording:
            self.recording, self._began, self._failed, self._seen = True, now, False, []
            actions.append(('start', ''))
        for kind, text in new.items():
            self._failed |= kind == 'failure'
            self._seen.append(f'{kind}: {text}')
            actions.append(('label', f'event={"; ".join(self._seen)}'))
        return actions + self.attend(now)

    def attend(self, now: float) -> list[tuple[str, str]]:
        """Return the action that ends the episode if its end is due; otherwise an empty list."""
        over = now - self._newest >= self._post_roll or now - self._began >= _LONGEST
        if not (self.recording and over):
            return []
        self.recording = False
        return [('failure' if self._failed else 'stop', '')]


def events_of(values: Mapping[str, str]) -> dict[Kind, str]:
    """Return the events that a status of a policy node reports, by kind: why it stopped, or what is unusual.

    ``values`` are the key-value pairs of the status.
    """
    found: dict[Kind, str] = {}
    if values.get('outcome') == 'stop':
        reason = values.get('reason', '')
        asked = reason in _REQUESTED or 'commands on' in reason
        found['intervention' if asked else 'failure'] = reason
    elif values.get('outcome') in ('command', 'hold') and values.get('ood_level', 'fine') != 'fine':
        found['out_of_distribution'] = 'observation'
    return found
