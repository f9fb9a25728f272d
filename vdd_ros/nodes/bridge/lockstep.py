"""Time that waits for commands: a policy period is simulated once all are there that must be."""

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
    """Simulates a policy period for each command, in the thread that heard it; physics has no thread of its own."""

    def __init__(self, world: World, awaited: Sequence[str], advance: Callable[[], None]) -> None:
        """Wait for controllers.

        Parameters
        ----------
        world
            What is simulated.
        awaited
            Controllers that must all have been commanded; by default the first active one that moves an arm.
        advance
            Simulates one chunk and tells what it brought.

        Raises
        ------
        ConfigurationError
            One of them is no controller of the world, or there is none at all.

        """
        controllers = world.stage.controllers
        self._world = world
        self._named = tuple(awaited)
        unknown = [name for name in self._named if name not in controllers]
        if unknown or not self.awaited:
            raise ConfigurationError(
                expected='controllers to wait for in lockstep',
                found=', '.join(unknown) or 'none that is active',
                remedy=f'name some of {", ".join(controllers) or "those that the scene file must have"}',
            )
        self._advance = advance
        self._heard: Counter[str] = Counter()
        self.paused = False
        """Whether commands are kept until time goes on."""

    @property
    def awaited(self) -> tuple[str, ...]:
        """Names of the controllers that are waited for now: another one may have become active."""
        controllers = self._world.stage.controllers.items()
        arms = (name for name, each in controllers if each.active and not isinstance(each, GripperController))
        return self._named or tuple(itertools.islice(arms, 1))

    def post(self, action: Callable[[], Any]) -> None:
        """Do something at once."""
        action()

    def do(self, action: Callable[[], Result]) -> Result:
        """Do something at once and return what comes of it."""
        return action()

    def begin(self) -> None:
        """Forget the commands of the episode before."""
        self._heard.clear()

    def heard(self, controller: str) -> None:
        """Note that a controller was commanded; if none is missing any more, simulate the period."""
        self._heard[controller] += 1
        awaited = self.awaited
        if awaited and all(self._heard[name] for name in awaited):
            self._heard -= Counter(awaited)
            self.go_on()

    def go_on(self) -> None:
        """Simulate a period, whoever was heard."""
        self._world.await_answer()
        self._advance()
        while not self._world.is_answered:
            self._advance()
