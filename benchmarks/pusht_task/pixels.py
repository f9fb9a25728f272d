"""PushT seen by its image: the human demonstrations drawn by gym-pusht, and games that are observed as they were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pusht_task.data import HERE, METRES
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.episode import Episode
from vdd_ros.policy.observation import Observation

IMAGE = 'top'
_SIZE = 96


def contract() -> Contract:
    """Return the contract of PushT with the image and the agent's position in place of the pose of the block."""
    state = load_contract(HERE / 'contract.yaml').model_dump(mode='json')
    image = {'height': _SIZE, 'width': _SIZE, 'color': 'rgb'}
    top = {'name': IMAGE, 'topic': f'{IMAGE}/image_raw', 'type': 'sensor_msgs/msg/Image', 'image': image}
    agent = next(item for item in state['observation'] if item['name'] == 'agent')
    robot = {**state['robot'], 'model': str(HERE / 'agent.xml')}
    values = {**state, 'schema_version': 3, 'name': 'pusht_pixels', 'robot': robot, 'observation': [agent, top]}
    return Contract.model_validate(values)


class PixelGame:
    """A game of gym-pusht that is drawn at 96 x 96 pixels, as its authors observe it."""

    def __init__(self) -> None:
        """Make one, without a screen."""
        os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')
        os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')
        from gym_pusht.envs.pusht import PushTEnv

        self._game = PushTEnv(
            obs_type='state', render_mode='rgb_array', observation_width=_SIZE, observation_height=_SIZE
        )

    def reset(self, seed: int) -> tuple[np.ndarray, Any]:
        """Begin anew; return the state, shape (5,) [pixel, rad], first."""
        return self._game.reset(seed=seed)

    def step(self, target: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Any]:
        """Go towards a target, shape (2,) [pixel]; return state, overlap, and whether it is over first."""
        return self._game.step(target)

    def observed(self, state: np.ndarray) -> Observation:
        """Return what the contract observes of the game in a state, shape (5,) [pixel, rad]."""
        return Observation(state[:2] * METRES, {IMAGE: self._picture()})

    def shown(self, state: np.ndarray) -> np.ndarray:
        """Put everything where a state says, and return the image, shape (height, width, 3) uint8."""
        self._game._set_state(state)
        return self._picture()

    def _picture(self) -> np.ndarray:
        return np.ascontiguousarray(self._game._render(), dtype=np.uint8)


def episodes(source: Path, count: int | None = None) -> list[Episode]:
    """Return the demonstrations of an .npz (`data.write_bag`) with their images; only the first so many."""
    with np.load(source) as data:
        states, actions, ends = (data[name] for name in ('state', 'action', 'episode_ends'))
    ends = ends.astype(int)[:count]
    game, found = PixelGame(), []
    game.reset(seed=0)
    for begin, end in zip([0, *ends[:-1]], ends):
        pictures = [game.shown(state.astype(np.float64)).ravel() for state in states[begin:end]]
        images = {IMAGE: Frames(pictures, 3 * _SIZE**2)}
        agent, target = (values[begin:end].astype(np.float64) * METRES for values in (states[:, :2], actions))
        found.append(Episode(agent, target, success=True, images=images))
    return found
