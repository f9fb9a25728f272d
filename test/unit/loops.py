"""Control loops for tests: a policy that answers as it is told, an arm that is where it was commanded to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.policy.routing import Routing

MILLISECOND = 1_000_000
LIMITS = Limits(
    np.array([-2.8, -1.0]),
    np.array([2.8, 1.5]),
    np.array([2.2, 1.0]),
    0.5,
    acceleration=np.array([10.0, 6.0]),
    jerk=np.array([5000.0, 2000.0]),
)


ONE_STEP = {'prediction_horizon': 1, 'action_horizon': 1}
"""A contract without chunks, for loops in lockstep."""
SHORT = {'prediction_horizon': 3, 'action_horizon': 1}
"""Plans at every tick, and two more steps, which a smooth motion at control rate needs."""
EXACT = Execution(action_noise_scale=0.0, smoothing=0.0, coherence=0.0)
"""Every waypoint is passed, and every plan stands for itself."""


@dataclass(frozen=True)
class Answer:
    """A mixture, as far as control looks at one."""

    log_gating: np.ndarray
    mean: np.ndarray


class AnsweringPolicy:
    """Answers with what a function makes of the number of the call and the newest observation, shape (expert, ...)."""

    def __init__(self, answer) -> None:
        """Remember the function, and from now on what was asked."""
        self.calls = 0
        self.windows: list[np.ndarray] = []
        self.density = 0.0
        self.done: list[np.ndarray] = []
        self._answer = answer

    def experts(self, observation: np.ndarray) -> Answer:
        self.windows.append(observation[0])
        mean = np.asarray(self._answer(self.calls, observation[0, -1]), dtype=float)
        self.calls += 1
        mean = mean.reshape(-1, *mean.shape[-2:])
        if mean.shape[1] == 1:  # what is answered for one step is answered for those after it, too
            mean = np.repeat(mean, SHORT['prediction_horizon'], axis=1)
        return Answer(np.full((1, len(mean)), -np.log(len(mean))), mean[None])

    def deviation(self, experts: Answer, expert: int, generator: np.random.Generator) -> np.ndarray:
        return generator.standard_normal(experts.mean.shape[2:])

    def coherence(self, experts: Answer, actions: np.ndarray) -> np.ndarray:
        """Return how near each expert's chunk is to what is left of the one under way."""
        return -((experts.mean[0, :, : len(actions)] - actions) ** 2).sum(axis=(1, 2))

    def signals(
        self, observation: np.ndarray, experts: Answer, at_full_speed: np.ndarray | None = None
    ) -> dict[str, float]:
        return {'density': self.density}

    def likelihood(self, experts: Answer, done: np.ndarray) -> float:
        self.done.append(done)
        return 0.0


def two_joint_contract(**change) -> Contract:
    """Return a contract of two joints at 50 Hz, with some entries changed."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    fixed = {'schema_version': 2, 'policy_rate': 50.0, 'observation_horizon': 1, **SHORT}
    return Contract.model_validate({**values, **fixed, **change})


def new_loop(policy: AnsweringPolicy, *, rules: dict | None = None, **change) -> ControlLoop:
    """Assemble a loop that commands at 1 kHz, with some rules and some entries of its contract changed."""
    return ControlLoop(
        two_joint_contract(**change),
        policy,
        None,
        **{
            'limits': LIMITS,
            'freshness': Freshness(100 * MILLISECOND),
            'routing': Routing(),
            'generator': np.random.default_rng(0),
            'control_period': MILLISECOND,
            'execution': EXACT,
            **(rules or {}),
        },
    )


def run(loop: ControlLoop, first: int, count: int, *, received: bool = True, plans: bool = True) -> list:
    """Tick by tick [ms]: measure the arm where it was commanded, plan at once if a plan is wanted, and decide."""
    outcomes = []
    for tick in range(first, first + count):
        if received:
            loop.observe(tick * MILLISECOND, loop.commanded)
        outcomes.append(loop.advance(tick * MILLISECOND) if plans else loop.decide(tick * MILLISECOND))
    return outcomes


def run_beside(policy: AnsweringPolicy, count: int, latency: int, **change) -> tuple[ControlLoop, list]:
    """Let inference take so long [ms]: the loop goes on ticking within it, as another thread would let it."""
    outcomes = []

    def infer(call: int, seen: np.ndarray) -> list:
        answer = policy.experts(seen[None, None]).mean[0]
        for _ in range(min(latency, count - len(outcomes))):
            tick()
        return answer

    def tick() -> None:
        now = len(outcomes) * MILLISECOND
        loop.observe(now, loop.commanded)
        outcomes.append(loop.decide(now))

    loop = started_loop(AnsweringPolicy(infer), **change)
    while len(outcomes) < count:
        tick()
        loop.plan()
    return loop, outcomes


def started_loop(policy: AnsweringPolicy, position: float = 0.0, **change) -> ControlLoop:
    """Assemble a loop, and start it at rest."""
    loop = new_loop(policy, **change)
    loop.start(0, np.full(2, position))
    return loop


def positions_of(outcomes: list) -> np.ndarray:
    """Return what was commanded, shape (tick, joint)."""
    return np.array([outcome.position for outcome in outcomes])


def from_rest(outcomes: list) -> np.ndarray:
    """Put the anchor, at which nearly all tests begin, before the commands."""
    return np.concatenate([np.zeros((1, 2)), positions_of(outcomes)])


def gentle(call: int, _: np.ndarray) -> list:
    """Ask for steps of a motion that begins gently."""
    time = call * 0.02
    return [[0.01 * np.sin(time) ** 2, -0.005 * np.sin(time) ** 2]]


def gentle_ahead(call: int, seen: np.ndarray) -> list:
    """Return a chunk of a gentle motion: what `gentle` answers now and in the two calls after it."""
    return [gentle(call + step, seen)[0] for step in range(SHORT['prediction_horizon'])]


def assert_limits_hold(commands: np.ndarray, limits: Limits, seconds: float) -> None:
    """Assert that no difference of commands, shape (step, joint), breaks a limit, nor does where they start from rest.

    A command is rounded to the precision of its number, so n-th differences are exact to 2^n roundings of the largest.
    """
    assert np.isfinite(commands).all()
    start = commands[:1]
    assert (commands <= np.maximum(limits.upper, start)).all() and (commands >= np.minimum(limits.lower, start)).all()
    path = np.concatenate([start, start, commands])
    rounding = np.finfo(float).eps * max(1.0, np.abs(commands).max())
    for order, limit in ((1, limits.velocity), (2, limits.acceleration), (3, limits.jerk)):
        excess = np.abs(np.diff(path, order, axis=0)) - limit * seconds**order * (1 + 1e-12)
        most = excess.max(initial=-np.inf)
        assert most <= 2**order * rounding, f'difference {order} exceeds its limit by {most}'
