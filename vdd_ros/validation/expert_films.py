"""Videos of a student's experts: the most typical demonstrations of each expert, in the scene of the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.film import Film
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Task
from vdd_ros.validation.explain import ExpertSummary, draw_path, tool_path
from vdd_ros.validation.films import SHADOW, camera_of, frame
from vdd_ros.validation.recorded import PredictedEpisode

_WIDTH, _HEIGHT = 320, 240
_SECONDS = 0.1
"""Time between two images [s]."""
_REST = 5
"""Number of images for which the end of a demonstration is shown."""
_IDLE, _DONE = (120, 128, 136), '#f2f4f6'


def film_experts(
    policy: DistilledPolicy,
    task: Task,
    episodes: Sequence[PredictedEpisode],
    summaries: Sequence[ExpertSummary],
    kinematics: Kinematics,
    folder: Path,
    progress: Progress,
) -> dict[int, Path]:
    """Record videos of the most typical demonstrations of each used expert, side by side; return the files by expert.

    An image has a frame in the colour of the expert while the demonstrated actions are attributed to the expert. The
    path of the expert's mean chunk is drawn in that colour, the recorded path of the tool in white. Objects of the
    scene stay at their start positions, since recordings do not contain them.

    Raises
    ------
    SimulationError
        No OpenGL context or no video encoder is available.

    """
    filmed = [summary for summary in summaries if not summary.is_unused and summary.typical]
    simulation = task.simulation()
    simulation.private_model().vis.quality.shadowsize = SHADOW
    scene = _Scene(policy.contract, task, simulation, kinematics)
    files = {}
    try:
        for done, summary in enumerate(filmed):
            progress('film', done, len(filmed), {})
            chosen = [
                episode
                for one in summary.typical
                for episode in episodes
                if (episode.bag, episode.index) == (one.bag, one.episode)
            ]
            files[summary.number] = folder / f'expert_{summary.number}.mp4'
            scene.film(files[summary.number], chosen, summary.number, policy.labels.colour(summary.number))
    finally:
        simulation.close()
    progress('film', len(filmed), len(filmed), {})
    return files


class _Scene:
    """The scene of a task, posed as an arm was recorded."""

    def __init__(self, contract: Contract, task: Task, simulation: Simulation, kinematics: Kinematics) -> None:
        self._contract, self._simulation, self._kinematics = contract, simulation, kinematics
        self._start = task.start(0)
        self._camera = camera_of(simulation)

    def film(self, path: Path, episodes: Sequence[PredictedEpisode], number: int, colour: str) -> None:
        """Record a video of demonstrations side by side, for one expert."""
        every = max(1, round(_SECONDS * NANOSECONDS / self._contract.period))
        page = np.empty((_HEIGHT, len(episodes) * _WIDTH, 3), dtype=np.uint8)
        ticks = [range(0, len(episode), every) for episode in episodes]
        with Film(path, rate=NANOSECONDS / (every * self._contract.period)) as film:
            for picture in range(max(map(len, ticks)) + _REST):
                for place, (episode, shown) in enumerate(zip(episodes, ticks)):
                    if picture < len(shown):
                        tile = page[:, place * _WIDTH : (place + 1) * _WIDTH]
                        tile[:] = self._picture(episode, shown[picture], number, colour)
                film.add(page)

    def _picture(self, episode: PredictedEpisode, tick: int, number: int, colour: str) -> np.ndarray:
        joints = dict(zip(self._contract.robot.joints, episode.joints[tick].tolist()))
        self._simulation.reset(replace(self._start, position={**self._start.position, **joints}))
        picture = self._simulation.render(self._camera, _WIDTH, _HEIGHT)
        acts = episode.responsibility[tick].argmax() == number
        paths = [(episode.tool[: tick + 1], _DONE)]
        if acts:
            paths.append((tool_path(self._contract, episode, tick, self._kinematics, number), colour))
        picture = self._drawn(picture, paths)
        frame(picture, _rgb(colour) if acts else _IDLE)
        return picture

    def _drawn(self, picture: np.ndarray, paths: Sequence[tuple[np.ndarray, str]]) -> np.ndarray:
        """Return a picture with paths of shape (point, 3) [m]; the free camera of a scene without cameras has none."""
        if self._camera is None:
            return picture.copy()
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        for points, colour in paths:
            draw_path(draw, self._simulation.pixels(self._camera, points, _WIDTH, _HEIGHT), colour, 2)
        return np.array(image)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
