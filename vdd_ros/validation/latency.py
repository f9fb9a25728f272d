"""How long a policy takes to answer, and a robot's loop to plan: in turn, in one process, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.control_output import Stop
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.planner import Planner, Tick, answered
from vdd_ros.control.trajectory import State
from vdd_ros.data.decode.live import Sample
from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.robot.kinematics import Kinematics

STUDENT, WATCHED, PLAN = 'student', 'student_with_ood_scores', 'student_plan'
"""One answer of a student, the same with the scores of out-of-distribution monitoring, and a whole plan of its loop."""

_TICKS = 2_000
"""More than any plan is apart from the next one."""
_WARMUP = 10
"""Plans that do not count: nothing is in the caches yet."""
_PLANS = 60
"""So many plans lead an arm about as far as an episode does; then it begins anew."""


@dataclass(frozen=True)
class Latency:
    """What one answer takes."""

    p50: float
    """Median duration [us]."""
    p99: float
    """The 99th percentile of the duration [us]."""
    processor: float
    """Mean processor time, over all threads [us]."""


class Planning:
    """The plans of a deployed control loop, made one after the other on an arm that follows at once.

    They are those of the policy node: observation, network, choice of the expert, scores of out-of-distribution
    monitoring, inverse kinematics and the motion through the waypoints.
    """

    def __init__(self, policy: DistilledPolicy, deployment: Deployment, start: np.ndarray | None = None) -> None:
        """Build the loop; the arm starts at joints of shape (joint,) [rad], or in the middle of their ranges."""
        contract, kinematics = policy.contract, Kinematics.from_contract(policy.contract)
        self._period = deployment.control_period(contract, simulated=False)
        if contract.prediction_horizon == 1:  # single steps are planned at the policy rate alone
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
        self._begin()

    def prepare(self) -> None:
        """Let time pass until a plan is wanted.

        A policy may lead the arm to a limit where it waits for long: then the arm starts again.
        """
        if self._plans == _PLANS:
            self._begin()
        if not self._wait():
            self._begin()
            if not self._wait():
                raise RuntimeError('the control loop asks for no plan')

    def _wait(self) -> bool:
        """Let time pass until a plan is wanted, at most `_TICKS`; return whether one is."""
        loop = self._loop
        for _ in range(_TICKS):
            self._now += self._period
            loop.observe(self._now, loop.commanded)
            if isinstance(loop.decide(self._now), Stop):
                self._begin()
            elif loop.wants_plan:
                return True
        return False

    def __call__(self) -> None:
        """Make the plan."""
        self._loop.plan()
        self._plans += 1

    def _begin(self) -> None:
        self._now += NANOSECONDS
        self._plans = 0
        self._loop.start(self._now, self._start)


class _Silence:
    """Streams that say nought, and are never stale."""

    def __init__(self, contract: Contract) -> None:
        values = {feature.name: np.zeros(feature.size) for feature in contract.topic_features}
        self._sample = Sample(values, ())

    def at(self, tick: int) -> Sample:
        return self._sample


def measure(
    answers: Mapping[str, Callable[[], object]],
    progress: Callable[[int, int], None],
    *,
    rounds: int = 40,
    calls: int = 20,
    warmup: int = 5,
) -> dict[str, Latency]:
    """Call the answers in turn, so that whatever else the machine does meets all of them alike.

    In a turn an answer is called ``warmup`` times, which do not count, and then ``calls`` times: on the robot it does
    not find the caches full of another policy. A `Planning` prepares itself before each call.
    """
    times: dict[str, list[int]] = {name: [] for name in answers}
    processor: dict[str, int] = dict.fromkeys(answers, 0)
    for count in range(rounds):
        progress(count + 1, rounds)
        for name, answer in answers.items():
            for call in range(-warmup, calls):
                if isinstance(answer, Planning):
                    answer.prepare()
                spent, begin = time.process_time_ns(), time.perf_counter_ns()
                answer()
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
    rounds: int = 40,
    calls: int = 20,
) -> dict[str, Latency]:
    """Measure ``teacher_eager``, ``teacher_same_runtime`` and the three of the student on one thread.

    The eager teacher is called as published code calls it: the torch module, once for each noise level. In the
    student's runtime it is the same network through onnxruntime, called as often. The student is asked by the planner
    of a deployment. Its answer ``student`` is network, coherence with the chunk under way and choice of the expert.
    ``student_with_ood_scores`` has the scores of out-of-distribution monitoring besides, if it is calibrated.
    ``student_plan`` is all that the policy node does for one plan, on an arm that starts at joints ``start`` (see
    `Planning`). What is not given is not measured.
    """
    generator = np.random.default_rng(0)
    answers: dict[str, Callable[[], object]] = {}
    if teacher is not None:
        window, slow = _window(teacher), TeacherPolicy(teacher)
        answers['teacher_eager'] = _eager(teacher, window)
        answers['teacher_same_runtime'] = lambda: slow.plan(window, generator)
    if student is not None:
        policy, seen = DistilledPolicy(student), _window(student)[0]
        answers[STUDENT] = _answer(policy, deployment.model_copy(update={'ood_response': 'ignore'}), seen)
        if deployment.ood_rules_of(policy) is not None:
            answers[WATCHED] = _answer(policy, deployment, seen)
        answers[PLAN] = Planning(policy, deployment, start)
    return measure(answers, progress, rounds=rounds, calls=calls)


def plan_durations(
    student: Artifact, deployment: Deployment, position: np.ndarray, *, plans: int = 300
) -> tuple[float, ...]:
    """Measure whole plans of a student on an arm that starts at ``position``, shape (joint,) [rad].

    Returns how long each took [s], in the order in which they were made. See `Planning`.
    """
    planning = Planning(DistilledPolicy(student), deployment, position)
    durations = []
    for _ in range(_WARMUP + plans):
        planning.prepare()
        begin = time.perf_counter()
        planning()
        durations.append(time.perf_counter() - begin)
    return tuple(durations[_WARMUP:])


def _answer(policy: DistilledPolicy, deployment: Deployment, window: np.ndarray) -> Callable[[], object]:
    """Return what asks a policy about a window as the policy node does, after every chunk of the contract."""
    contract, kinematics = policy.contract, Kinematics.from_contract(policy.contract)
    planner = Planner(
        contract,
        policy,
        kinematics,
        limits=deployment.limits_of(contract, kinematics, lockstep=False),
        routing=deployment.routing_of(contract, deployment.rules, policy.expert_count),
        execution=deployment.execution,
        ood_rules=deployment.ood_rules_of(policy),
        generator=np.random.default_rng(0),
        lockstep=False,
    )
    still = np.zeros_like(kinematics.lower)
    tick = Tick(0, 0, 0, 0.0, still, still, State(still, still, still))
    chunk = policy.act(window)
    left = chunk[planner.replan_steps :] if deployment.coherence else chunk[:0]

    def answer() -> None:
        planner.judge(chunk[0])
        answered(planner.answering(window, left if len(left) else None, tick), planner.experts)
        planner.watch()

    return answer


def _window(artifact: Artifact) -> np.ndarray:
    """Return the mean of what is observed, shape (1, observation_horizon, observation)."""
    horizon = artifact.manifest.contract.observation_horizon
    return np.repeat(np.array(artifact.manifest.observation_offset)[None, None], horizon, axis=1)


def _eager(artifact: Artifact, window: np.ndarray) -> Callable[[], object]:
    import torch

    from vdd_ros.learning.jobs import restored_teacher

    teacher = restored_teacher(artifact)
    normalized = artifact.manifest.normalizers.observation.normalize(window)
    observation = torch.as_tensor(normalized, dtype=torch.float32)
    draws = teacher.noise_draws()

    def answer() -> object:
        threads = torch.get_num_threads()
        if threads != 1:
            torch.set_num_threads(1)
        with torch.no_grad():
            return teacher.sample(observation, torch.randn(draws, 1, teacher.shape.action_size)).numpy()

    return answer
