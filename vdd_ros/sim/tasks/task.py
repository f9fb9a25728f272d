"""What every task is: a scene, where to start, who shows how, and who judges."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree

import numpy as np

from vdd_ros.sim.simulation import Simulation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verdict = Literal['running', 'success', 'failure']


class SuccessDetector(ABC):
    """Judges one episode; a new one begins with a new referee."""

    @abstractmethod
    def judge(self, simulation: Simulation) -> Verdict:
        """Look at the scene after each policy period, or oftener; contacts in between are not missed."""

    @property
    @abstractmethod
    def way(self) -> int | None:
        """Which of the task's ways was taken, as an index of `Task.way_names`; None before it is decided."""


class Demonstrator(ABC):
    """Shows a task again and again, by commanding the hand once in each policy period.

    A hand is where the tool point is, x, y and z [m], followed by the joints that do not move it: those of a gripper.
    In closed loop: every command follows from the one before, so a disturbed command is led back.
    """

    @abstractmethod
    def begin(self, hand: np.ndarray) -> None:
        """Start the next demonstration with the hand at ``hand``, shape (3 + gripper joint,)."""

    @abstractmethod
    def command(self, hand: np.ndarray) -> np.ndarray:
        """Return where to command the hand next, given where it is commanded to; both shape (3 + gripper joint,)."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether all is shown: no more commands are needed."""

    @property
    @abstractmethod
    def way(self) -> int:
        """Which of the task's ways it means to take."""


class Task(ABC):
    """A task in simulation, the same for demonstrations, rollouts and ROS."""

    name: str
    """The name of its folder."""
    scene: Path
    """MJCF file of the scene, fit to look at; `simulation` adds what the hand holds."""
    joints: tuple[str, ...]
    """Names of the commanded joints."""
    gripper: tuple[str, ...] = ()
    """Those of them that do not move the tool point."""
    tool: str
    """Site that is the tool point."""
    starts: tuple[str, ...] = ('start',)
    """Keyframes at which episodes start, in turn."""
    period: int
    """Policy period [ns]."""
    max_steps: int
    """Policy periods until an episode fails for want of time."""
    way_names: tuple[str, ...]
    """A name for each way in which the task can be done."""
    contract: str
    """Name of the contract that ships for it and is taken where none is named."""
    moving: tuple[str, ...]
    """Geoms that the arm moves about."""
    obstacles: tuple[str, ...]
    """Geoms that these must not touch; how near they came is reported."""

    @abstractmethod
    def simulation(self, joints: Sequence[str] | None = None) -> Simulation:
        """Return a new scene at the start; all scenes of one task share the compiled model.

        ``joints`` names the commanded joints in the order that its arrays shall have, by default the task's own.
        """

    def reset(self, simulation: Simulation, episode: int = 0) -> None:
        """Lead a scene back to the start of an episode, counted from 0: the starts take turns."""
        simulation.reset(self.starts[episode % len(self.starts)])

    @property
    def scene_hash(self) -> str:
        """SHA-256 of what the scene is made of: its files, those they include, and where episodes start."""
        waiting, files = sorted(self.scene.parent.glob('*.xml')), {}
        while waiting:
            file = waiting.pop()
            files[file.name] = file.read_bytes()
            included = ElementTree.fromstring(files[file.name]).iter('include')
            waiting += [file.parent / item.attrib['file'] for item in included]
        model = self.simulation().model
        starts = [model.key(name).qpos.round(6).tolist() for name in self.starts]
        digest = hashlib.sha256(repr((self.name, starts)).encode())
        for name in sorted(files):
            digest.update(name.encode() + files[name])
        return digest.hexdigest()

    @abstractmethod
    def new_success_detector(self) -> SuccessDetector:
        """Return a referee for one episode."""

    @abstractmethod
    def new_demonstrator(self, generator: np.random.Generator) -> Demonstrator:
        """Return a demonstrator whose choices all come from ``generator``."""

    @abstractmethod
    def draw(self, axes: Axes) -> None:
        """Draw the task seen from above, as a ground for paths of the tool point: x and y [m]."""
