"""Games of gym-pusht side by side in processes, and one policy that is asked about all of them at once.

The games cost a processor's time and the policy that of a GPU, if there is one. So the games run in processes of their
own and the policy in this one. What comes of a game does not depend on how many processes there are.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from benchmarks.pusht_task.data import METRES, observation
from vdd_ros.contract.contract import Contract
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.observation import AnyObservation, joined

STEPS = 300
"""After so many an episode ends, as in the paper."""
FIRST_SEED = 100_000
"""Of the starts: those that the paper tests from."""
SUCCESS = 0.95
"""The share of the outline that counts as all of it."""
_VISITED_FROM = 10_000_000
"""Of the starts of visits: none of them is tested from."""


class Game(Protocol):
    """What a rollout needs of the game; gym-pusht's environment is one."""

    def reset(self, seed: int) -> tuple[np.ndarray, Any]:
        """Begin anew; return the state, shape (5,) [pixel, rad], first."""
        ...

    def step(self, target: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Any]:
        """Go towards a target, shape (2,) [pixel]; return state, overlap, and whether it is over first."""
        ...


See = Callable[[Any, np.ndarray], AnyObservation]
"""A game and its state to what the contract observes of it."""

Act = Callable[[AnyObservation, np.random.Generator], np.ndarray]
"""Windows of shape (batch, observation_horizon, observation) to chunks (batch, prediction_horizon, action); `act` of
`DistilledPolicy` and of `TeacherPolicy` are some."""


class Planner(Protocol):
    """A policy as the rounds of a distillation have it."""

    def plan(self, observation: AnyObservation, generator: np.random.Generator) -> Plan:
        """Plan from windows of shape (batch, observation_horizon, observation)."""
        ...


def gym_pusht() -> Game:
    """Return a game of gym-pusht, without a screen."""
    os.environ.setdefault('SDL_VIDEODRIVER', 'dummy')
    os.environ.setdefault('PYGAME_HIDE_SUPPORT_PROMPT', '1')
    from gym_pusht.envs.pusht import PushTEnv

    return PushTEnv(obs_type='state')


def _state(game: Game, state: np.ndarray) -> np.ndarray:
    return observation(state)


@dataclass(frozen=True)
class Played:
    """What came of some episodes; every array in their order."""

    overlap: np.ndarray
    """Largest share of the outline that was covered, 1 from 95 % on, shape (episode,)."""
    steps: np.ndarray
    """How long each took, shape (episode,)."""
    windows: AnyObservation | None = None
    """All windows that were seen, at every step, shape (window, observation_horizon, observation); if asked for."""

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


class _Board:
    """Some games of one process, by their place among all."""

    def __init__(self, contract: Contract, new_game: Callable[[], Game], see: See) -> None:
        self._contract, self._new_game, self._see = contract, new_game, see
        self._games: list[Game] = []

    def begin(self, seeds: Mapping[int, int], noting: bool) -> None:
        """Begin a game for each place, from a seed, and note windows if asked to."""
        self._games += [self._new_game() for _ in range(len(seeds) - len(self._games))]
        span = self._contract.span + 1
        self._playing = dict(zip(seeds, self._games))
        self._seen = {
            place: deque([self._see(game, game.reset(seed=seeds[place])[0])] * span, maxlen=span)
            for place, game in self._playing.items()
        }
        self._overlap, self._taken = dict.fromkeys(seeds, 0.0), dict.fromkeys(seeds, 0)
        self._noting, self._windows = noting, {place: [self._window(place)] for place in seeds}

    def windows(self) -> dict[int, AnyObservation]:
        """Return what the games show that still run."""
        return {place: self._window(place) for place in self._playing}

    def play(self, chunks: Mapping[int, np.ndarray], steps: int) -> dict[int, AnyObservation]:
        """Do the first so many actions of each chunk, and return what the games show that still run."""
        for place, chunk in chunks.items():
            game = self._playing[place]
            for target in chunk[:steps]:
                state, share, done, _, _ = game.step(np.clip(target / METRES, 0, 512))
                self._seen[place].append(self._see(game, state))
                if self._noting:
                    self._windows[place].append(self._window(place))
                self._overlap[place] = max(self._overlap[place], share)
                self._taken[place] += 1
                if done:
                    del self._playing[place]
                    break
        return self.windows()

    def result(self) -> dict[int, tuple[float, int, AnyObservation]]:
        """Return of each place: overlap, steps, and the windows that were noted."""
        return {
            place: (overlap, self._taken[place], joined(self._windows[place], np.stack))
            for place, overlap in self._overlap.items()
        }

    def _window(self, place: int) -> AnyObservation:
        return joined([*self._seen[place]][:: self._contract.observation_stride], np.stack)


def _serve(connection: Connection, contract: Contract, new_game: Callable[[], Game], see: See) -> None:
    board = _Board(contract, new_game, see)
    while (asked := connection.recv()) is not None:
        name, *arguments = asked
        connection.send(getattr(board, name)(*arguments))


class Arena:
    """Processes that play, as a context; a `Simulator` for the rounds of a distillation."""

    def __init__(
        self,
        contract: Contract,
        processes: int = 1,
        *,
        steps: int = STEPS,
        new_game: Callable[[], Game] = gym_pusht,
        see: See = _state,
    ) -> None:
        """Prepare so many processes; `new_game` and `see` must be picklable for more than one."""
        self._contract, self._count, self._steps = contract, processes, steps
        self._make = contract, new_game, see
        self._board: _Board | None = None
        self._workers: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Arena:
        """Start the processes; one needs none beside this."""
        if self._count == 1:
            self._board = _Board(*self._make)
            return self
        context = multiprocessing.get_context('spawn')
        for _ in range(self._count):
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, *self._make), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, mine))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, whatever they are at if there is an error."""
        for process, connection in self._workers:
            if error is None:
                connection.send(None)
            else:
                process.terminate()
            process.join()
            connection.close()
        self._workers, self._board = [], None

    def play(
        self,
        act: Act,
        seeds: Sequence[int],
        *,
        noting: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Played:
        """Let a policy play from some starts, all at once.

        `noting` asks for all windows; `progress` is called with (steps done, steps).
        """
        generator = np.random.default_rng(seeds[0])
        horizon = self._contract.action_horizon
        self._ask('begin', [(part, noting) for (part,) in self._dealt(dict(enumerate(seeds)))])
        shown = self._ask('windows', self._each())
        for step in range(0, self._steps, horizon):
            places = sorted(place for part in shown for place in part)
            if not places:
                break
            windows = {place: window for part in shown for place, window in part.items()}
            plans = dict(zip(places, act(joined([windows[place] for place in places], np.stack), generator)))
            shown = self._ask('play', [(part, min(horizon, self._steps - step)) for (part,) in self._dealt(plans)])
            if progress is not None:
                progress(min(step + horizon, self._steps), self._steps)
        results = {place: result for part in self._ask('result', self._each()) for place, result in part.items()}
        overlap, taken, seen = zip(*(results[place] for place in range(len(seeds))))
        return Played(np.array(overlap), np.array(taken), joined(seen) if noting else None)

    def test(self, act: Act, episodes: int, *, progress: Callable[[int, int], None] | None = None) -> Played:
        """Let a policy play from the first starts that the paper tests from."""
        return self.play(act, range(FIRST_SEED, FIRST_SEED + episodes), progress=progress)

    def visit(self, policy: Planner, episodes: int, seed: int) -> AnyObservation:
        """Let a policy play from starts that are not tested from, and return all windows that it saw."""
        first = _VISITED_FROM + 100_000 * seed
        seeds = range(first, first + episodes)
        return self.play(lambda *asked: policy.plan(*asked).action, seeds, noting=True).windows

    def _dealt(self, items: Mapping[int, Any]) -> list[tuple[dict[int, Any]]]:
        """Deal items by place to the processes."""
        count = len(self._workers) or 1
        return [({place: item for place, item in items.items() if place % count == part},) for part in range(count)]

    def _each(self) -> list[tuple[()]]:
        return [()] * (len(self._workers) or 1)

    def _ask(self, name: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._board is not None:
            return [getattr(self._board, name)(*arguments[0])]
        for (_, connection), mine in zip(self._workers, arguments):
            connection.send((name, *mine))
        return [connection.recv() for _, connection in self._workers]
