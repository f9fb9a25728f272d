"""Trouble on purpose: what sensors, network and body of a real arm do to a policy, by seed and in simulated time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
from pydantic import Field

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.common.yaml_file import read_document
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.sim.randomization import Randomization

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Item = TypeVar('Item')


class Delivery(Settings):
    """What happens to the messages of one stream on their way; their order is kept."""

    latency: Amount = 0.0
    """Time from a message's leaving to its arrival [s]."""
    jitter: Amount = 0.0
    """Upper end of what is added to that for each message, drawn uniformly from zero [s]."""
    drop: Share = 0.0
    """Share of the messages that never arrive."""

    @property
    def is_nominal(self) -> bool:
        """Whether every message arrives at once."""
        return not (self.latency or self.jitter or self.drop)


class JointStateDisturbances(Delivery):
    """What happens to joint states; deviations are those of independent Gaussian noise on every joint."""

    position_noise: Amount = 0.0
    """[rad]"""
    velocity_noise: Amount = 0.0
    """[rad/s]"""
    effort_noise: Amount = 0.0
    """[N m]"""

    @property
    def is_nominal(self) -> bool:
        """Whether every state arrives at once, and exact."""
        return super().is_nominal and not (self.position_noise or self.velocity_noise or self.effort_noise)


class SensorDisturbances(Delivery):
    """What happens to the messages of another sensor."""

    noise: tuple[Amount, ...] = ()
    """Standard deviations, for each kind of quantity that it measures: of a wrench the force [N] and the torque [N m];
    of an IMU the acceleration [m/s^2] and the angular velocity [rad/s]; of a camera the intensity [of 255] and the
    depth [m]; of a pose the position [m]. Those that are left out are zero."""


class Disturbances(Settings):
    """All that is made worse than in the model; by default nothing."""

    joint_states: JointStateDisturbances = JointStateDisturbances()
    """The joint states on their way to the commander."""
    commands: Delivery = Delivery()
    """The commands on their way to the controllers."""
    sensors: Mapping[str, SensorDisturbances] = {}
    """Other sensors and cameras, by name."""
    randomization: Randomization = Randomization()
    """What is another world in every episode."""

    @property
    def is_nominal(self) -> bool:
        """Whether nothing at all is made worse."""
        return self == Disturbances()


def load_disturbances(name: str | Path, scene: Path | None = None) -> Disturbances:
    """Return the disturbances of a name.

    Parameters
    ----------
    name
        Empty: none. The path of a YAML file, recognised by its suffix: the fields of `Disturbances`. Otherwise a
        scenario.
    scene
        The scene of a task, beside which its scenarios are.

    Raises
    ------
    ConfigurationError
        The file or the scenario is absent, or has keys that `Disturbances` does not have.

    """
    if not str(name):
        return Disturbances()
    path = Path(name)
    if path.suffix:
        return Disturbances.read(path)
    scenarios = read_scenarios(scene)
    if str(name) not in scenarios:
        raise ConfigurationError(
            expected='a scenario, or the path of a YAML file',
            found=str(name),
            remedy=f'name one of {", ".join(scenarios)}',
        )
    return Disturbances.parse(scenarios[str(name)] or {})


def read_scenarios(scene: Path | None = None) -> dict[str, Any]:
    """Return the fields of `Disturbances` by name of a scenario.

    These are the scenarios of ``config/scenarios.yaml``, and those of a ``scenarios.yaml`` beside the scene of a task.
    """
    entries = dict(read_yaml(share_path('config', 'scenarios.yaml')))
    own = None if scene is None else scene.parent / 'scenarios.yaml'
    if own is not None and own.exists():
        entries.update(read_yaml(own))
    return entries


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read a YAML file that holds a mapping; one that is absent or no such file is a `ConfigurationError`."""
    values = read_document(path, 'YAML').values
    if values is not None and not isinstance(values, dict):
        raise ConfigurationError(
            expected=f'keys and values in {path}', found=f'a {type(values).__name__}', remedy='correct the file'
        )
    return values or {}


class Channel(Generic[Item]):
    """One stream on its way, in simulated time: what is sent arrives later, or never, and in order."""

    def __init__(self, delivery: Delivery, generator: np.random.Generator) -> None:
        """Draw all chance from ``generator``."""
        self._latency = delivery.latency * NANOSECONDS
        self._jitter = delivery.jitter * NANOSECONDS
        self._drop = delivery.drop
        self._generator = generator
        self._under_way: deque[tuple[int, Item]] = deque()
        self._last = 0
        self.dropped = 0
        """Messages that will never arrive."""

    @property
    def next_arrival(self) -> float:
        """When the next message arrives [ns]; infinity if none is under way."""
        return self._under_way[0][0] if self._under_way else math.inf

    def send(self, now: int, item: Item) -> None:
        """Let a message leave at ``now`` [ns]."""
        if self._drop and self._generator.random() < self._drop:
            self.dropped += 1
            return
        delay = self._latency + (self._generator.random() * self._jitter if self._jitter else 0.0)
        self._last = max(self._last, now + round(delay))
        self._under_way.append((self._last, item))

    def receive(self, now: int) -> list[Item]:
        """Return what has arrived by ``now`` [ns] and was not received before, in order."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            arrived.append(self._under_way.popleft()[1])
        return arrived


def generator_of(seed: np.random.SeedSequence, stream: str) -> np.random.Generator:
    """Return the generator of one stream of an episode: its chance does not depend on which other streams there are."""
    name = int.from_bytes(stream.encode(), 'big')
    words = []
    while name:
        name, word = divmod(name, 2**32)
        words.append(word)
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *words)))


Deliver = Callable[[int], None]
"""Takes effect where a command has arrived; told when that is [ns]."""
