"""Rollouts in gym-pusht, many side by side: the largest overlap of each with the outline."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from benchmarks.pusht_task.data import METRES, observation
from vdd_ros.contract.contract import Contract

STEPS = 300
"""After so many an episode ends, as in the paper."""
FIRST_SEED = 100_000
"""Of the starts: those that the paper tests from."""
SUCCESS = 0.95
"""The share of the outline that counts as all of it."""
_BATCH = 30


class Game(Protocol):
    """What a rollout needs of the game; gym-pusht's environment is one."""

    def reset(self, seed: int) -> tuple[np.ndarray, Any]:
        """Begin anew; return the state, shape (5,) [pixel, rad], first."""
        ...

    def step(self, target: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Any]:
        """Go towards a target, shape (2,) [pixel]; return state, overlap, and whether it is over first."""
        ...


class Policy(Protocol):
    """What a rollout needs of a policy; `DistilledPolicy` and `TeacherPolicy` are some."""

    def act(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw chunks for windows of shape (batch, observation_horizon, observation)."""
        ...


def gym_pusht() -> Game:
    """Return a game of gym-pusht, without a screen."""
    os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')
    os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')
    from gym_pusht.envs.pusht import PushTEnv

    return PushTEnv(obs_type='state')


@dataclass(frozen=True)
class Overlaps:
    """What came of some episodes; every array in their order."""

    overlap: np.ndarray
    """Largest share of the outline that was covered, 1 from 95 % on, shape (episode,)."""
    steps: np.ndarray
    """How long each took, shape (episode,)."""

    @property
    def mean(self) -> float:
        """Mean maximal overlap."""
        return float(self.overlap.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean."""
        return float(self.overlap.std() / np.sqrt(len(self.overlap)))

    @property
    def success(self) -> float:
        """Share of the episodes that covered it all."""
        return float((self.overlap >= 1).mean())


def rollout(
    contract: Contract,
    planner: Callable[[], Policy],
    episodes: int,
    *,
    steps: int = STEPS,
    processes: int = 1,
    progress: Callable[[int, int], None],
    new_game: Callable[[], Game] = gym_pusht,
) -> Overlaps:
    """Let a policy play; equal episodes start equally, whatever the policy and the number of processes."""
    batches = [range(first, min(first + _BATCH, episodes)) for first in range(0, episodes, _BATCH)]
    play = partial(_play, contract, planner, steps, new_game)
    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def note(number: int, result: tuple[np.ndarray, np.ndarray]) -> None:
        results[number] = result
        progress(sum(len(batches[number]) for number in results), episodes)

    if processes == 1:
        for number, batch in enumerate(batches):
            note(number, play(batch))
    else:
        with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn')) as executor:
            futures = {executor.submit(play, batch): number for number, batch in enumerate(batches)}
            for future in as_completed(futures):
                note(futures[future], future.result())
    overlap, taken = (np.concatenate([results[number][part] for number in range(len(batches))]) for part in (0, 1))
    return Overlaps(overlap, taken)


def _play(
    contract: Contract,
    planner: Callable[[], Policy],
    steps: int,
    new_game: Callable[[], Game],
    episodes: range,
) -> tuple[np.ndarray, np.ndarray]:
    policy, generator = planner(), np.random.default_rng(episodes.start)
    games = [new_game() for _ in episodes]
    span = contract.span + 1
    seen = [
        deque([observation(game.reset(seed=FIRST_SEED + number)[0])] * span, maxlen=span)
        for game, number in zip(games, episodes)
    ]
    overlap, taken = np.zeros(len(games)), np.zeros(len(games), dtype=int)
    running = list(range(len(games)))
    for step in range(steps):
        offset = step % contract.action_horizon
        if offset == 0:
            windows = np.stack([[*seen[place]][:: contract.observation_stride] for place in running])
            plans = dict(zip(running, policy.act(windows, generator)))
        for place in list(running):
            target = np.clip(plans[place][offset] / METRES, 0, 512)
            state, share, done, _, _ = games[place].step(target)
            seen[place].append(observation(state))
            overlap[place] = max(overlap[place], share)
            taken[place] = step + 1
            if done:
                running.remove(place)
        if not running:
            break
    return overlap, taken
