"""Measure the duration of policy calls and of plans, interleaved, in one process and on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.control_output import Stop
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.planner import Planner, PlanningRules, Tick, run_with
from vdd_ros.control.trajectory import State
from vdd_ros.data.decode.live import Sample
from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.observation import AnyObservation, with_gray_images
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.robot.kinematics import Kinematics

STUDENT, WATCHED, PLAN = 'student', 'student_with_ood_scores', 'student_plan'
"""Names of three durations: a call of the student, a call with OOD scores, and a complete plan of the control loop."""

_TICKS = 2_000
"""Upper bound on the number of control steps between plans."""
_WARMUP = 10
"""Plans before the measurement, to fill the caches."""
_PLANS = 60
"""Number of plans after which the arm is reset, about the length of an episode."""


@dataclass(frozen=True)
class Latency:
    """Median and 99th percentile of the duration of one call, and its processor time."""

    p50: float
    """Median duration [us]."""
    p99: float
    """99th percentile of the duration [us]."""
    processor: float
    """Mean processor time over all threads [us]."""


class Planning:
    """The plans of a deployed control loop, on an arm that follows perfectly.

    A plan includes all work of the policy node: observation, network, expert selection, OOD scores, inverse kinematics
    and the motion through the waypoints.
    """

    def __init__(self, policy: DistilledPolicy, deployment: Deployment, start: np.ndarray | None = None) -> None:
        """Create the loop. The arm starts at joints of shape (joint,) [rad], or in the middle of their ranges."""
        contract, kinematics = policy.contract, Kinematics.from_contract(policy.contract)
        self._period = deployment.control_period(contract, simulated=False)
        if contract.prediction_horizon == 1:  # single steps are planned at the policy rate only
            self._period = contract.period
        self._loop = deployment.build_loop(
            contract,
            policy,
            kinematics,
            period=self._period,
            generator=np.random.default_rng(0),
            streams=_Silence(contract),
            guarded=False,
        )
        middle = 0.5 * (kinematics.lower + kinematics.upper)
        self._start = np.where(np.isfinite(middle), middle, 0.0) if start is None else start
        self._now = self._plans = 0
        self._streams = [feature.name for feature in contract.topic_features]
        self._begin()

    def prepare(self) -> None:
        """Advance time until a plan is due.

        If the policy stays at a limit for long, the arm is reset.
        """
        if self._plans == _PLANS:
            self._begin()
        if not self._wait():
            self._begin()
            if not self._wait():
                raise RuntimeError('the control loop requests no plan')

    def _wait(self) -> bool:
        """Advance time until a plan is due, at most `_TICKS`; return whether one is."""
        loop = self._loop
        for _ in range(_TICKS):
            self._now += self._period
            loop.observe(self._now, loop.commanded)
            for stream in self._streams:
                loop.on_message(stream, self._now)
            if isinstance(loop.decide(self._now), Stop):
                self._begin()
            elif loop.wants_plan:
                return True
        return False

    def __call__(self) -> None:
        """Compute the plan."""
        self._loop.plan()
        self._plans += 1

    def _begin(self) -> None:
        self._now += NANOSECONDS
        self._plans = 0
        self._loop.start(self._now, self._start)


class _Silence:
    """Streams without messages that are never stale."""

    def __init__(self, contract: Contract) -> None:
        values = {feature.name: np.zeros(feature.size) for feature in contract.topic_features}
        self._sample = Sample(values, ())

    def at(self, tick: int) -> Sample:
        return self._sample


def measure(
    functions: Mapping[str, Callable[[], object]],
    progress: Callable[[int, int], None],
    *,
    rounds: int = 40,
    calls: int = 20,
    warmup: int = 5,
) -> dict[str, Latency]:
    """Measure the functions in turn, so other load on the machine affects all of them equally.

    In each round, every function is called ``warmup`` times without measurement, and then ``calls`` times. Caches are
    therefore filled by the same policy, as on the robot. A `Planning` is prepared before each call. ``progress`` is
    called at the beginning of each round with its number, from 1, and the number of rounds.
    """
    times: dict[str, list[int]] = {name: [] for name in functions}
    processor: dict[str, int] = dict.fromkeys(functions, 0)
    for count in range(rounds):
        progress(count + 1, rounds)
        for name, function in functions.items():
            for call in range(-warmup, calls):
                if isinstance(function, Planning):
                    function.prepare()
                spent, begin = time.process_time_ns(), time.perf_counter_ns()
                function()
                duration = time.perf_counter_ns() - begin
                if call >= 0:
                    times[name].append(duration)
                    processor[name] += time.process_time_ns() - spent
    return {
        name: Latency(*(float(q) / 1000 for q in np.percentile(value, (50, 99))), processor[name] / 1000 / len(value))
        for name, value in times.items()
    }


def compare(
    teacher: Artifact | None,
    student: Artifact | None,
    progress: Callable[[int, int], None],
    *,
    deployment: Deployment = Deployment(),
    start: np.ndarray | None = None,
    whole_plans: bool = True,
    rounds: int = 40,
    calls: int = 20,
) -> dict[str, Latency]:
    """Measure ``teacher_eager``, ``teacher_same_runtime`` and the three durations of the student on one thread.

    The eager teacher is called as in published code: the torch module, once per noise level. ``teacher_same_runtime``
    is the same network in onnxruntime with the same number of calls. The student is called by the planner of a
    deployment. ``student`` includes network, coherence with the current chunk, and expert selection.
    ``student_with_ood_scores`` also includes OOD scores, if the student is calibrated. ``student_plan`` includes all
    work of the policy node for one plan, on an arm that starts at joints ``start`` (see `Planning`). Policies that are
    None are not measured, and whole plans only if ``whole_plans``.
    """
    generator = np.random.default_rng(0)
    functions: dict[str, Callable[[], object]] = {}
    if teacher is not None:
        window, slow = _window(teacher), TeacherPolicy(teacher)
        functions['teacher_eager'] = _eager(teacher, window)
        functions['teacher_same_runtime'] = lambda: slow.plan(window, generator)
    if student is not None:
        policy, seen = DistilledPolicy(student), _window(student)[0]
        unwatched = deployment.model_copy(update={'ood_response': 'ignore'})
        functions[STUDENT] = _policy_call(policy, unwatched, seen, start)
        if deployment.ood_rules_of(policy) is not None:
            functions[WATCHED] = _policy_call(policy, deployment, seen, start)
        if whole_plans:
            functions[PLAN] = Planning(policy, deployment, start)
    return measure(functions, progress, rounds=rounds, calls=calls)


def plan_durations(
    student: Artifact, deployment: Deployment, position: np.ndarray, *, plans: int = 300
) -> tuple[float, ...]:
    """Measure complete plans of a student on an arm that starts at ``position``, shape (joint,) [rad].

    Returns the duration of each plan [s], in order. See `Planning`.
    """
    planning = Planning(DistilledPolicy(student), deployment, position)
    durations = []
    for _ in range(_WARMUP + plans):
        planning.prepare()
        begin = time.perf_counter()
        planning()
        durations.append(time.perf_counter() - begin)
    return tuple(durations[_WARMUP:])


def _policy_call(
    policy: DistilledPolicy, deployment: Deployment, window: AnyObservation, start: np.ndarray | None
) -> Callable[[], object]:
    """Return a function that calls a policy as the policy node does, with all chunks of the contract.

    Rules are evaluated for an arm that rests at ``start``, shape (joint,) [rad], by default at zero.
    """
    contract, kinematics = policy.contract, Kinematics.from_contract(policy.contract)
    rules = PlanningRules(
        deployment.limits_of(contract, kinematics, lockstep=False),
        deployment.routing_of(contract, deployment.rules, policy.expert_count, policy.labels),
        deployment.execution,
        deployment.ood_rules_of(policy),
    )
    planner = Planner(contract, policy, kinematics, rules, generator=np.random.default_rng(0), lockstep=False)
    still = np.zeros_like(kinematics.lower)
    arm = still if start is None else start
    planner.policy_interface.anchor(arm)
    tick = Tick(0, 0, 0, 0.0, arm, arm, State(arm, still, still))
    chunk = policy.act(window)
    left = chunk[planner.replan_steps :] if deployment.coherence else chunk[:0]

    def function() -> None:
        planner.judge(chunk[0])
        run_with(planner.querying(window, left if len(left) else None, tick), planner.experts)
        planner.watch()

    return function


def _window(artifact: Artifact) -> AnyObservation:
    """Return the mean observation window, shape (1, observation_horizon, observation), and gray images."""
    contract, mean = artifact.manifest.contract, np.array(artifact.manifest.observation_offset)
    return with_gray_images(contract, np.repeat(mean[None, None], contract.observation_horizon, axis=1))


def _eager(artifact: Artifact, window: AnyObservation) -> Callable[[], object]:
    import torch

    from vdd_ros.learning.image_windows import windows_on
    from vdd_ros.learning.jobs import restored_teacher

    teacher = restored_teacher(artifact)
    normalizer = artifact.manifest.normalizers.observation
    observation = windows_on(window, normalizer, torch.device('cpu'))
    draws = teacher.noise_draws()

    def function() -> object:
        threads = torch.get_num_threads()
        if threads != 1:
            torch.set_num_threads(1)
        with torch.no_grad():
            return teacher.sample(observation, torch.randn(draws, 1, teacher.shape.action_size)).numpy()

    return function
