"""Disturbances of sensors, transport and robot, drawn by seed in simulated time."""

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
    """Transport of the messages of one stream; their order is kept."""

    latency: Amount = 0.0
    """Transport delay [s]."""
    jitter: Amount = 0.0
    """Maximum additional delay, drawn uniformly for each message [s]."""
    drop: Share = 0.0
    """Share of messages lost."""

    @property
    def is_nominal(self) -> bool:
        """Whether every message arrives immediately."""
        return not (self.latency or self.jitter or self.drop)


class JointStateDisturbances(Delivery):
    """Disturbances of joint states; noise is Gaussian and independent for every joint, given as standard deviations."""

    position_noise: Amount = 0.0
    """Standard deviation of positions [rad]."""
    velocity_noise: Amount = 0.0
    """Standard deviation of velocities [rad/s]."""
    effort_noise: Amount = 0.0
    """Standard deviation of torques [N m]."""

    @property
    def is_nominal(self) -> bool:
        """Whether every state arrives immediately and without noise."""
        return super().is_nominal and not (self.position_noise or self.velocity_noise or self.effort_noise)


LIGHT = ('brightness', 'color', 'covered')
"""Fields of `SensorDisturbances` that change camera images in another way than noise."""


class SensorDisturbances(Delivery):
    """Disturbances of one sensor or camera other than the joint states."""

    noise: tuple[Amount, ...] = ()
    """Standard deviations for the quantities of the sensor. Wrench: force [N], torque [N m]. IMU: acceleration
    [m/s^2], angular velocity [rad/s]. Camera: intensity [of 255], depth [m]. Pose: position [m]. Missing ones are
    zero."""
    brightness: float = Field(1.0, ge=0)
    """For cameras: factor on the intensity of all pixels."""
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """For cameras: factors on red, green and blue, as caused by another white balance."""
    covered: bool = False
    """For cameras: whether the lens is covered, which gives black images."""


class Disturbances(Settings):
    """All deviations from the nominal simulation; none by default."""

    joint_states: JointStateDisturbances = JointStateDisturbances()
    """Transport and noise of joint states."""
    commands: Delivery = Delivery()
    """Transport of commands."""
    sensors: Mapping[str, SensorDisturbances] = {}
    """Other sensors and cameras, by name."""
    randomization: Randomization = Randomization()
    """Randomization of the scene in every episode."""

    @property
    def is_nominal(self) -> bool:
        """Whether there are no disturbances."""
        return self == Disturbances()


def load_disturbances(name: str | Path, scene: Path | None = None) -> Disturbances:
    """Return disturbances by name.

    Parameters
    ----------
    name
        Empty: none. A path with a YAML suffix: a file with the fields of `Disturbances`. Otherwise the name of a
        scenario.
    scene
        The scene of a task; a ``scenarios.yaml`` in its folder is also used.

    Raises
    ------
    ConfigurationError
        The file or the scenario does not exist, or has unknown keys.

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
            remedy=f'use one of {", ".join(scenarios)}',
        )
    return Disturbances.parse(scenarios[str(name)] or {})


def read_scenarios(scene: Path | None = None) -> dict[str, Any]:
    """Return the fields of `Disturbances` of all scenarios, by name.

    These are the scenarios of ``config/scenarios.yaml``, and of a ``scenarios.yaml`` in the folder of a task's scene.
    """
    entries = dict(read_yaml(share_path('config', 'scenarios.yaml')))
    own = None if scene is None else scene.parent / 'scenarios.yaml'
    if own is not None and own.exists():
        entries.update(read_yaml(own))
    return entries


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read a YAML file with a mapping; raises `ConfigurationError` if it is missing or invalid."""
    values = read_document(path, 'YAML').values
    if values is not None and not isinstance(values, dict):
        raise ConfigurationError(
            expected=f'keys and values in {path}', found=f'a {type(values).__name__}', remedy='correct the file'
        )
    return values or {}


class Channel(Generic[Item]):
    """Transport of one stream in simulated time: messages arrive in order, later, or not at all."""

    def __init__(self, delivery: Delivery, generator: np.random.Generator) -> None:
        """Create an empty channel that draws random numbers from ``generator``."""
        self._latency = delivery.latency * NANOSECONDS
        self._jitter = delivery.jitter * NANOSECONDS
        self._drop = delivery.drop
        self._generator = generator
        self._under_way: deque[tuple[int, Item]] = deque()
        self._last = 0
        self.dropped = 0
        """Number of lost messages."""

    @property
    def next_arrival(self) -> float:
        """Arrival time of the next message [ns]; infinity if none is pending."""
        return self._under_way[0][0] if self._under_way else math.inf

    def send(self, now: int, item: Item) -> None:
        """Send a message at ``now`` [ns]."""
        if self._drop and self._generator.random() < self._drop:
            self.dropped += 1
            return
        delay = self._latency + (self._generator.random() * self._jitter if self._jitter else 0.0)
        self._last = max(self._last, now + round(delay))
        self._under_way.append((self._last, item))

    def receive(self, now: int) -> list[Item]:
        """Return the messages that have arrived by ``now`` [ns] since the last call, in order."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            arrived.append(self._under_way.popleft()[1])
        return arrived


def generator_of(seed: np.random.SeedSequence, stream: str) -> np.random.Generator:
    """Return the random generator of one stream of an episode, which is independent of the other streams."""
    name = int.from_bytes(stream.encode(), 'big')
    words = []
    while name:
        name, word = divmod(name, 2**32)
        words.append(word)
    return np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *words)))


Deliver = Callable[[int], None]
"""Applies a command at its arrival time [ns]."""
