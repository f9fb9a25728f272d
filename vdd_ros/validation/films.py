"""Videos of a validation: some episodes of each scenario, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vdd_ros.sim.film import Film
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Task
from vdd_ros.validation.trial import Rollouts

_CAMERA = 'angle'
_WIDTH, _HEIGHT = 320, 240
_COLUMNS = 3
SHADOW = 1024
"""Size of the shadow map: a larger one slows down software renderers."""
_EVERY = 2
"""Policy periods per image."""
_LAST = 8
"""Number of images for which the end of an episode is shown."""
_FRAME = 4
_WON, _LOST = (47, 158, 91), (192, 57, 43)


def film_all(
    task: Task,
    rollouts: Mapping[str, Mapping[str, Rollouts]],
    folder: Path,
    progress: Callable[[int, int], None],
) -> dict[str, Path]:
    """Record the first policy of each scenario; return the files by scenario.

    Parameters
    ----------
    task
        The task that provides the scene.
    rollouts
        Rollouts by scenario, then by policy.
    folder
        Folder for ``<scenario>.mp4``.
    progress
        Called before each video with (videos done, videos), and after the last one.

    Raises
    ------
    SimulationError
        No OpenGL context or no video encoder is available.

    """
    films = {}
    simulation = task.simulation()
    simulation.private_model().vis.quality.shadowsize = SHADOW
    try:
        for done, (scenario, policies) in enumerate(rollouts.items()):
            progress(done, len(rollouts))
            films[scenario] = folder / f'{scenario}.mp4'
            foremost = next(iter(policies.values()))
            _film(films[scenario], simulation, foremost, worth_seeing(foremost, _COLUMNS if done else 2 * _COLUMNS))
    finally:
        simulation.close()
    progress(len(rollouts), len(rollouts))
    return films


def worth_seeing(rollouts: Rollouts, count: int) -> list[int]:
    """Select episodes: up to half of them failures, then successes, with all modes before a mode is repeated."""
    failures = np.flatnonzero(~rollouts.success).tolist()[: count // 2]
    seen: dict[int, int] = {}
    ranked = []
    for episode in np.flatnonzero(rollouts.success).tolist():
        mode = int(rollouts.mode[episode])
        ranked.append((seen.get(mode, 0), episode))
        seen[mode] = seen.get(mode, 0) + 1
    return failures + [episode for _, episode in sorted(ranked)][: count - len(failures)]


def _film(path: Path, simulation: Simulation, rollouts: Rollouts, chosen: Sequence[int]) -> None:
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    camera = camera_of(simulation)
    shown = [rollouts.states[episode][::_EVERY] for episode in chosen]
    page = np.empty((rows * _HEIGHT, columns * _WIDTH, 3), dtype=np.uint8)
    with Film(path, rate=1 / (_EVERY * rollouts.period)) as film:
        for picture in range(max(map(len, shown)) + _LAST):
            for place, (episode, states) in enumerate(zip(chosen, shown)):
                top, left = place // columns * _HEIGHT, place % columns * _WIDTH
                tile = page[top : top + _HEIGHT, left : left + _WIDTH]
                if picture < len(states):
                    simulation.pose(states[picture])
                    tile[:] = simulation.render(camera, _WIDTH, _HEIGHT)
                if picture == len(states) - 1:
                    frame(tile, _WON if rollouts.success[episode] else _LOST)
            film.add(page)


def camera_of(simulation: Simulation) -> str | None:
    """Return the camera named `angle`, otherwise the first of the model; None selects the free camera of MuJoCo."""
    names = [simulation.model.camera(index).name for index in range(simulation.model.ncam)]
    return _CAMERA if _CAMERA in names else next(iter(names), None)


def frame(picture: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw a frame around an image of shape (height, width, 3)."""
    picture[:_FRAME] = picture[-_FRAME:] = colour
    picture[:, :_FRAME] = picture[:, -_FRAME:] = colour
