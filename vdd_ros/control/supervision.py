"""Operation under supervision: an enabling device that a person holds, and a workspace. Time is passed in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class EnablingDevice:
    """State of an enabling device, determined from its messages.

    The device counts as released if no message arrives for longer than the time-out, for example after a lost
    connection.
    """

    def __init__(self, timeout: int) -> None:
        """Set the time-out [ns]; the device is initially released."""
        self._timeout = timeout
        self._received: int | None = None
        self._held = False

    def on_message(self, held: bool, stamp: int) -> None:
        """Process a message that arrived at ``stamp`` [ns]."""
        self._held, self._received = held, stamp

    def missing(self, now: int) -> str:
        """Return why the arm must not move at ``now`` [ns]; empty while the device is held."""
        if self._received is None:
            return 'no message from the enabling device'
        if not self._held:
            return 'the enabling device is released'
        # The clock of a simulation may be set back, and a stamp may be slightly newer than the newest tick.
        if abs(now - self._received) > self._timeout:
            return f'no message from the enabling device for {abs(now - self._received) / 1e9:.2f} s'
        return ''


@dataclass(frozen=True)
class Supervision:
    """Conditions for the motion of an arm under supervision: enabling device and workspace."""

    device: EnablingDevice
    workspace: np.ndarray | None = None
    """Lower and upper corner of the box in which plans must keep the tool, shape (2, 3) [m]; None for no box."""

    def departure(self, path: np.ndarray) -> str:
        """Return in words where a tool path, shape (step, 3) [m], leaves the workspace; empty if it stays inside."""
        if self.workspace is None:
            return ''
        lower, upper = self.workspace
        outside = ((path < lower) | (path > upper)).any(axis=-1)
        if not outside.any():
            return ''
        step = int(outside.argmax())
        place = ', '.join(f'{value:.3f}' for value in path[step])
        return f'step {step + 1} leads the tool out of the workspace, to ({place})'
