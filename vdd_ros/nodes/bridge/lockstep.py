"""Lockstep: a policy period is simulated when all required commands have arrived."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.nodes.bridge.world import World
from vdd_ros.sim.controllers import GripperController

Result = TypeVar('Result')


class Lockstep:
    """Simulates one policy period per command, in the thread of the subscription, without a physics thread."""

    def __init__(self, world: World, awaited: Sequence[str], advance: Callable[[], None]) -> None:
        """Select the controllers to wait for.

        Parameters
        ----------
        world
            The simulated world.
        awaited
            Controllers that must all be commanded; by default the first active one that moves an arm.
        advance
            Called repeatedly until one policy period is simulated: simulates one chunk and publishes the results.

        Raises
        ------
        ConfigurationError
            A controller is unknown, or there is no controller.

        """
        controllers = world.stage.controllers
        self._world = world
        self._named = tuple(awaited)
        unknown = [name for name in self._named if name not in controllers]
        if unknown or not self.awaited:
            raise ConfigurationError(
                expected='controllers to wait for in lockstep',
                found=', '.join(unknown) or 'no active controller',
                remedy=f'use some of {", ".join(controllers) or "the controllers of the scene file (none)"}',
            )
        self._advance = advance
        self._commanded: Counter[str] = Counter()
        self.paused = False
        """Whether commands are queued until time resumes."""

    @property
    def awaited(self) -> tuple[str, ...]:
        """Names of the controllers that are currently waited for; active controllers may change."""
        controllers = self._world.stage.controllers.items()
        arms = (name for name, each in controllers if each.active and not isinstance(each, GripperController))
        return self._named or tuple(itertools.islice(arms, 1))

    def post(self, action: Callable[[], Any]) -> None:
        """Execute an action immediately."""
        action()

    def do(self, action: Callable[[], Result]) -> Result:
        """Execute an action immediately, and return its result."""
        return action()

    def begin(self) -> None:
        """Drop the commands of the previous episode."""
        self._commanded.clear()

    def on_command(self, controller: str) -> None:
        """Record a command of a controller; if all have arrived, simulate the period."""
        self._commanded[controller] += 1
        awaited = self.awaited
        if awaited and all(self._commanded[name] for name in awaited):
            self._commanded -= Counter(awaited)
            self.go_on()

    def go_on(self) -> None:
        """Simulate a period even if commands are missing."""
        self._world.await_answer()
        self._advance()
        while not self._world.is_answered:
            self._advance()
