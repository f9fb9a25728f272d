"""A task: a scene, its start states, a success detector, and optionally a demonstrator and a drawing."""

from __future__ import annotations

import hashlib
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from xml.etree import ElementTree

import mujoco
import numpy as np

from vdd_ros.common.errors import ConfigurationError, VddError
from vdd_ros.common.settings import rename_attributes
from vdd_ros.sim.scene import Gripper, SceneSettings
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.start import Start

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verdict = Literal['running', 'success', 'failure']
VERDICTS = get_args(Verdict)


class SuccessDetector(ABC):
    """Decides whether an episode succeeded, and in which mode. Every episode has its own instance."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Accept the former name of `mode`, with a warning."""
        super().__init_subclass__(**options)
        rename_attributes(cls, {'way': 'mode'})

    @abstractmethod
    def judge(self, simulation: Simulation) -> Verdict:
        """Return the state of the episode.

        Called at least once in each policy period. `Simulation.touched` includes the contacts between two calls.
        """

    @property
    def mode(self) -> int | None:
        """Index of the mode in `Task.mode_names`; None before it is decided. A task with one mode needs no override."""
        return 0


class Demonstrator(ABC):
    """Scripted demonstrations of a task: one command of the hand for each policy period.

    A hand is the position of the tool point, x, y and z [m], followed by the joints of the gripper. Every command is
    computed from the previous one. The whole path is computed before the arm moves: at the start of a demonstration,
    `begin` is called once, then `command` until `finished` is true.
    """

    def look(self, simulation: Simulation) -> None:  # noqa: B027 - most demonstrators need no look
        """Read the scene right after its reset, before `begin`; does nothing by default. Called only without ROS."""

    @abstractmethod
    def begin(self, hand: np.ndarray) -> None:
        """Start the next demonstration with the hand at ``hand``, shape (3 + gripper joint,)."""

    @abstractmethod
    def command(self, hand: np.ndarray) -> np.ndarray:
        """Return the next command of the hand, given its last command; both of shape (3 + gripper joint,)."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the demonstration is complete."""


class Task(ABC):
    """A task in simulation, used for demonstrations, for rollouts and over ROS."""

    name: str
    """Name in reports and messages."""
    reference: str = ''
    """Reference with which `load_task` loads the task in any process; set by `load_task`."""
    scene: Path
    """File of the scene. A file ``scenarios.yaml`` in the same folder adds scenarios to the validation."""
    settings: SceneSettings = SceneSettings()
    """Controllers, sensors and cameras of the scene, for the bridge."""
    joints: tuple[str, ...]
    """Names of the commanded joints."""
    gripper: tuple[str, ...] = ()
    """Those of `joints` that do not move the tool point."""
    tool: str
    """Site or body that is the tool point."""
    starts: tuple[str | Start, ...] = ('start',)
    """Start states of the episodes, in turn: names of keyframes, or `Start`."""
    period: int
    """Policy period [ns]."""
    demonstrated_from: int = 0
    """Number of the first episode for demonstrations in process. Where episodes differ, policies are evaluated in other
    episodes."""
    max_steps: int
    """Policy periods until an episode fails by time-out."""
    mode_names: tuple[str, ...] = ('done',)
    """Names of the modes of behaviour. With a single mode, entropy is neither reported nor required."""
    contract: str
    """Default contract: a file, or the name of a shipped contract."""
    moving: tuple[str, ...] = ()
    """Geoms moved by the arm, by name; the name of a body selects all its geoms."""
    obstacles: tuple[str, ...] = ()
    """Geoms or bodies whose distance to `moving` is reported. Without them no distance is reported."""

    @property
    def arm_controller(self) -> str | None:
        """Name of the controller in `settings` that moves the commanded joints at the start; None if there is none."""
        for name, each in self.settings.controllers.items():
            if each.active and not isinstance(each, Gripper) and set(each.joints) & set(self.joints):
                return name
        return None

    def __init_subclass__(cls, **options: Any) -> None:
        """Accept the former name of `mode_names`, with a warning."""
        super().__init_subclass__(**options)
        rename_attributes(cls, {'way_names': 'mode_names'})

    @property
    def scenarios_beside(self) -> Path:
        """The file in whose folder a ``scenarios.yaml`` adds scenarios to the validation; by default the scene."""
        return self.scene

    @abstractmethod
    def simulation(self, joints: Sequence[str] | None = None) -> Simulation:
        """Return a new scene at its start state. All scenes of one task share the compiled model.

        ``joints`` names the commanded joints in the order of the arrays, by default the task's own.
        """

    def start(self, episode: int) -> Start:
        """Return the start state of an episode, counted from 0; the episodes use the start states in turn."""
        start = self.starts[episode % len(self.starts)]
        return Start(start) if isinstance(start, str) else start

    def reset(self, simulation: Simulation, episode: int = 0) -> None:
        """Reset a simulation to the start state of an episode; ``episode`` counts from 0."""
        simulation.reset(self.start(episode))

    def scene_files(self) -> dict[str, bytes]:
        """Return the contents of all files of the scene, by name."""
        waiting, files = sorted(self.scene.parent.glob('*.xml')), {}
        while waiting:
            file = waiting.pop()
            files[file.name] = file.read_bytes()
            included = ElementTree.fromstring(files[file.name]).iter('include')
            waiting += [file.parent / item.attrib['file'] for item in included]
        return files

    @property
    def scene_hash(self) -> str:
        """SHA-256 of the files of the scene and of the start states."""
        simulation, files, starts = self.simulation(), self.scene_files(), []
        for episode in range(len(self.starts)):
            self.reset(simulation, episode)
            starts.append(simulation.data.qpos.round(6).tolist())
        digest = hashlib.sha256(repr((self.name, starts)).encode())
        for name in sorted(files):
            digest.update(name.encode() + files[name])
        return digest.hexdigest()

    def judge(self, detector: SuccessDetector, simulation: Simulation) -> Verdict:
        """Return the verdict of a success detector, after a check of the result.

        Raises
        ------
        ConfigurationError
            The detector raises an error, or returns an invalid verdict or mode.

        """
        try:
            verdict, mode = detector.judge(simulation), detector.mode
        except VddError:
            raise
        except Exception as error:
            raise ConfigurationError(
                expected=f'a verdict of {type(detector).__name__}',
                found=located(error),
                remedy=f'correct the success detector of the task {self.name}',
            ) from error
        known = verdict in VERDICTS and (mode is None or 0 <= mode < len(self.mode_names))
        if not known:
            raise ConfigurationError(
                expected=f'a verdict ({", ".join(VERDICTS)}) and a mode from 0 to {len(self.mode_names) - 1}, or None',
                found=f'{verdict!r} and {mode!r} of {type(detector).__name__}',
                remedy=f'correct the success detector of the task {self.name}',
            )
        return verdict

    @abstractmethod
    def new_success_detector(self) -> SuccessDetector:
        """Return a success detector; called at the start of every episode, and when the task is checked."""

    def new_demonstrator(self, generator: np.random.Generator) -> Demonstrator:
        """Return a demonstrator that draws all choices from ``generator``.

        Raises
        ------
        ConfigurationError
            The task has no demonstrator (default).

        """
        raise ConfigurationError(
            expected=f'a scripted demonstrator of the task {self.name}',
            found='none',
            remedy='record with `vdd record-live`, or override Task.new_demonstrator',
        )

    def draw(self, axes: Axes) -> None:
        """Draw the task in top view, as background for tool paths: x and y [m]. By default the obstacles."""
        draw_obstacles(self, axes)


def located(error: Exception) -> str:
    """Describe an error of a user's code, with the line where it was raised."""
    text = f'{type(error).__name__}: {error}'
    if isinstance(error, SyntaxError):
        return f'{text} in {error.filename}, line {error.lineno}'
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith('<')]
    return f'{text} in {frames[-1].filename}, line {frames[-1].lineno}'


def draw_obstacles(task: Task, axes: Axes) -> None:
    """Draw the footprints of the obstacles of a task and the tool point at the first start state, in top view.

    Boxes are rectangles, and all other geoms circles of their bounding radius in the plane.
    """
    from matplotlib.patches import Circle, Polygon

    simulation = task.simulation()
    model, data = simulation.model, simulation.data
    for index in simulation.geoms(task.obstacles):
        geom = model.geom(index)
        place, turn = data.geom_xpos[geom.id][:2], data.geom_xmat[geom.id].reshape(3, 3)
        if geom.type.item() == int(mujoco.mjtGeom.mjGEOM_BOX):
            corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * geom.size
            patch = Polygon(_hull(place + (corners @ turn.T)[:, :2]))
        else:
            upright = abs(turn[2, 2]) > 0.99 and geom.type.item() == int(mujoco.mjtGeom.mjGEOM_CYLINDER)
            patch = Circle(place, geom.size[0] if upright else float(model.geom_rbound[geom.id]))
        patch.set(facecolor='#d9dee4', edgecolor='#8c99a6', zorder=1)
        axes.add_patch(patch)
    axes.plot(*simulation.place(task.tool)[:2], marker='o', color='#33475b', zorder=3)
    axes.set(aspect='equal', xlabel='x [m]', ylabel='y [m]')


def _hull(points: np.ndarray) -> np.ndarray:
    """Return the convex hull of points of shape (point, 2), counterclockwise (Andrew's monotone chain)."""
    ordered = sorted(set(map(tuple, points.round(9).tolist())))

    def chain(sequence: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in sequence:
            while len(kept) > 1:
                (ax, ay), (bx, by) = kept[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]))
