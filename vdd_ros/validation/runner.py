"""Episodes side by side in one process: arms in simulation, each under a control loop, asked about in one batch."""

from __future__ import annotations

import contextlib
import copy
import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vdd_ros.common.errors import ConfigurationError, SimulationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.control_output import Command, ControlOutput, Hold, Stop
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.planner import Asking
from vdd_ros.policy.routing import Mixture
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.arm import SimulatedArm
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import SuccessDetector, Task, Verdict
from vdd_ros.validation.policies import Asked, Recorded, asked
from vdd_ros.validation.trial import Timing

_FAR = 0.25
"""Obstacles further away than that are not told apart [m]."""


@dataclass
class Record:
    """What is kept of an episode; small enough to be sent between processes."""

    path: list[np.ndarray] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    experts: list[int] = field(default_factory=list)
    clamped: int = 0
    clearance: float = _FAR
    verdict: Verdict = 'running'
    way: int | None = None
    cause: str = ''
    """Why the episode failed."""
    clamps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Commands that a limit changed, by kind of limit and joint."""
    commands: list[np.ndarray] = field(default_factory=list)
    """What was commanded in every control period, if `Timing.keeps_commands`, shape (joint,) [rad] each."""


@dataclass
class _Episode:
    number: int
    arm: SimulatedArm
    loop: ControlLoop
    success_detector: SuccessDetector
    record: Record
    expert: int | None = None
    """Who acts, if the policy has said so."""
    states: deque = field(default_factory=deque)
    """Joint states under way: when they arrive [ns], and what they are."""
    pending: tuple | None = None
    """A plan under way: when it arrives [ns], the planning that waits for the answer, and the answer."""
    latencies: np.random.Generator | None = None
    outcome: ControlOutput | None = None
    """What was sent last."""


class Runner:
    """Runs batches of episodes of one task under one contract."""

    def __init__(self, task: Task, contract: Contract, deployment: Deployment, timing: Timing | None = None) -> None:
        """Load the arm's kinematics; without ``timing`` the simulation waits for the policy (lockstep).

        Raises
        ------
        ConfigurationError
            The policy sees more than joints tell.

        """
        if contract.topic_features:
            raise ConfigurationError(
                expected='a policy that sees joints alone, to be rolled out in process',
                found=f'the feature {contract.topic_features[0].name}, which has a topic of its own',
                remedy='validate it over ROS: --episodes 0 --ros-episodes 100',
            )
        self._task = task
        self._contract = contract
        self._deployment = deployment
        self._timing = timing
        self._kinematics = Kinematics.from_contract(contract)
        self._simulations: list[Simulation] = []

    def run(
        self,
        policy: object,
        disturbances: Disturbances,
        episodes: range,
        seed: np.random.SeedSequence,
        ended: Callable[[int], None],
    ) -> list[Record]:
        """Run episodes side by side and return their records.

        Parameters
        ----------
        policy, disturbances
            Who acts (see `vdd_ros.validation.policies`), and in what world.
        episodes
            Their numbers: which start they have, what of a recording they do, and what they draw.
        seed
            Of all chance; that of an episode's world depends on its number alone.
        ended
            Told after each step how many it ended.

        """
        contract, answers = self._contract, asked(policy, self._contract, self._kinematics)
        generator = np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(0, episodes.start)))
        while len(self._simulations) < len(episodes):
            self._simulations.append(self._new_simulation())
        started = [
            self._start(simulation, disturbances, answers, number, seed)
            for simulation, number in zip(self._simulations, episodes)
        ]
        running = started
        if self._timing is not None:
            with _without_cycles():
                self._run_deployed(started, answers, generator, ended)
            return [each.record for each in started]
        with _without_cycles():
            speed = answers.deployed(self._deployment).speed
            for step in range(round(self._task.max_steps * self._task.period / contract.period / speed)):
                self._decide(running, answers, int(step * speed), generator)
                before, running = len(running), [each for each in running if each.record.verdict == 'running']
                ended(before - len(running))
                if not running:
                    break
        for episode in running:
            episode.record.verdict, episode.record.cause = 'failure', 'time-out'
        ended(len(running))
        return [each.record for each in started]

    def _new_simulation(self) -> Simulation:
        """Return a scene whose physics steps fit into a control period."""
        simulation = self._task.simulation(self._contract.joints)
        timing = self._timing
        if timing is None or timing.control_period % simulation.timestep == 0:
            return simulation
        if not self._simulations:
            self._model = copy.copy(simulation.shared_model)
            pieces = -(-timing.control_period // simulation.timestep)
            self._model.opt.timestep = timing.control_period / pieces / NANOSECONDS
        return Simulation(self._model, simulation.joints, home=simulation.home)

    def _run_deployed(
        self,
        started: list[_Episode],
        answers: Asked,
        generator: np.random.Generator,
        ended: Callable[[int], None],
    ) -> None:
        """Run episodes in the timing of the deployment: commands at control rate, plans and joint states late."""
        timing, contract = self._timing, self._contract
        period = timing.control_period
        deployment = answers.deployed(self._deployment)
        speed = deployment.speed
        ticks = round(self._task.max_steps * self._task.period / speed / period)
        judged = max(1, round(contract.period / period))
        states = max(1, round(timing.state_period / period))
        latencies = np.array(timing.latency) * timing.latency_scale * NANOSECONDS
        running = started
        for tick in range(ticks):
            questions, asking = [], []
            for episode in running:
                planning = self._tick_deployed(episode, tick % states == 0)
                if planning is not None:
                    questions.append(planning[1])
                    asking.append((episode, planning[0]))
            if asking:
                numbers = [episode.number for episode, _ in asking]
                commanded = [episode.loop.commanded for episode, _ in asking]
                step = int(tick * period * speed) // contract.period
                said = answers.of(questions, numbers, commanded, step, generator)
                for (episode, planning), answer in zip(asking, said):
                    episode.expert = answer.expert
                    late = int(latencies[episode.latencies.integers(len(latencies))])
                    episode.pending = episode.arm.simulation.stamp + late, planning, answer.mixture
            for episode in running:
                self._step_deployed(episode, period, judge=tick % judged == judged - 1)
            before, running = len(running), [each for each in running if each.record.verdict == 'running']
            ended(before - len(running))
            if not running:
                break
        for episode in running:
            episode.record.verdict, episode.record.cause = 'failure', 'time-out'
        for episode in started:
            episode.record.clamps = dict(episode.loop.counters().clamps)
        ended(len(running))

    def _tick_deployed(self, episode: _Episode, measures: bool) -> tuple[Asking[bool], object] | None:
        """Deliver what has arrived, send the next command; return the planning that is due, and its question."""
        arm, loop, record = episode.arm, episode.loop, episode.record
        now = arm.simulation.stamp
        if measures:
            episode.states.append((now + self._timing.state_delay, arm.measured))
        while episode.states and episode.states[0][0] <= now:
            measured = episode.states.popleft()[1]
            loop.observe(measured.stamp, measured.position)
        if episode.pending is not None and episode.pending[0] <= now:
            _, planning, mixture = episode.pending
            episode.pending = None
            _finished(planning, mixture)
        outcome = loop.decide(now)
        if self._timing.keeps_commands:
            record.commands.append(outcome.position)
        if isinstance(outcome, Stop):
            record.verdict, record.cause = 'failure', outcome.reason
            return None
        episode.outcome = outcome
        arm.command(outcome.position)
        if not loop.wants_plan or episode.pending is not None:
            return None
        planning = loop.planning()
        try:
            return planning, next(planning)
        except StopIteration:
            return None

    def _step_deployed(self, episode: _Episode, period: int, *, judge: bool) -> None:
        record, arm, task = episode.record, episode.arm, self._task
        if record.verdict != 'running':
            return
        simulation, outcome = arm.simulation, episode.outcome
        try:
            arm.step(period)
        except SimulationError as error:
            record.verdict, record.cause = 'failure', str(error)
            return
        acted = isinstance(outcome, Command)
        record.clamped += acted and outcome.clamped
        if not judge:
            return
        record.verdict = episode.success_detector.judge(simulation)
        record.way = episode.success_detector.way
        if record.verdict == 'failure':
            record.cause = 'collision'
        expert = -1
        if acted:
            expert = outcome.expert if episode.expert is None else episode.expert
        record.path.append(simulation.site_position(task.tool))
        record.states.append(simulation.data.qpos.copy())
        record.experts.append(expert)
        record.clearance = simulation.clearance(task.moving, task.obstacles, record.clearance)

    def _start(
        self,
        simulation: Simulation,
        disturbances: Disturbances,
        answers: Asked,
        number: int,
        seed: np.random.SeedSequence,
    ) -> _Episode:
        start = self._start_of(answers, simulation, number)
        self._task.reset(simulation, start)
        arm = SimulatedArm(simulation, disturbances)
        arm.begin(np.random.SeedSequence(seed.entropy, spawn_key=(1, number)))
        chance = np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(2, number)))
        loop = answers.deployed(self._deployment).build_loop(
            self._contract,
            answers,
            self._kinematics,
            period=self._contract.period if self._timing is None else self._timing.control_period,
            generator=chance,
            guarded=self._timing is not None,
        )
        loop.start(simulation.stamp, arm.measured.position)
        record = Record(path=[simulation.site_position(self._task.tool)], states=[simulation.data.qpos.copy()])
        latencies = np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(3, number)))
        return _Episode(number, arm, loop, self._task.new_success_detector(), record, latencies=latencies)

    def _start_of(self, answers: Asked, simulation: Simulation, number: int) -> int:
        """Return the start of an episode; of a recorded one that which looks most like it."""
        if not isinstance(answers.policy, Recorded) or len(self._task.starts) == 1:
            return number
        distances = []
        for start in range(len(self._task.starts)):
            self._task.reset(simulation, start)
            distances.append(answers.distance_at_start(number, simulation.position))
        return int(np.argmin(distances))

    def _decide(self, running: Sequence[_Episode], answers: Asked, step: int, generator: np.random.Generator) -> None:
        """Let every loop decide, all that ask being answered together, and every arm move on."""
        asking: list[tuple[_Episode, Asking[ControlOutput]]] = []
        questions = []
        for episode in running:
            measured = episode.arm.measured
            episode.loop.observe(measured.stamp, measured.position)
            advancing = episode.loop.advancing(episode.arm.simulation.stamp)
            try:
                questions.append(next(advancing))
                asking.append((episode, advancing))
            except StopIteration as end:
                self._act(episode, end.value)
        if not asking:
            return
        numbers = [episode.number for episode, _ in asking]
        commanded = [episode.loop.commanded for episode, _ in asking]
        said = answers.of(questions, numbers, commanded, step, generator)
        for (episode, advancing), answer in zip(asking, said):
            episode.expert = answer.expert
            self._act(episode, _sent(advancing, answer.mixture))

    def _act(self, episode: _Episode, outcome: ControlOutput) -> None:
        record, arm, task = episode.record, episode.arm, self._task
        simulation, expert = arm.simulation, -1
        match outcome:
            case Command():
                expert = outcome.expert if episode.expert is None else episode.expert
                record.clamped += outcome.clamped
            case Hold():
                pass
            case Stop():
                # Nobody is there who would let it go on: the episode has failed.
                record.verdict, record.cause = 'failure', outcome.reason
                return
        arm.command(outcome.position)
        try:
            arm.step(self._contract.period)
        except SimulationError:
            # A world that was drawn may be one in which this policy shakes the arm to pieces.
            record.verdict, record.cause = 'failure', 'the simulation diverged'
            return
        record.verdict = episode.success_detector.judge(simulation)
        if record.verdict == 'failure':
            record.cause = 'collision'
        record.way = episode.success_detector.way
        record.path.append(simulation.site_position(task.tool))
        record.states.append(simulation.data.qpos.copy())
        record.experts.append(expert)
        record.clearance = simulation.clearance(task.moving, task.obstacles, record.clearance)


def _sent(advancing: Asking[ControlOutput], mixture: Mixture) -> ControlOutput:
    """Send a loop its answer, and return what it decides."""
    try:
        advancing.send(mixture)
    except StopIteration as end:
        return end.value
    raise RuntimeError('a loop asked twice in one period')


def _finished(planning: Asking[bool], mixture: Mixture) -> None:
    """Send a planning its answer: the plan has arrived."""
    try:
        planning.send(mixture)
    except StopIteration:
        return
    raise RuntimeError('a plan asked twice')


@contextlib.contextmanager
def _without_cycles() -> Iterator[None]:
    """Look for no cyclic garbage meanwhile: there is none, and looking costs a tenth of the time."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


def batches_of(episodes: int, size: int) -> Sequence[range]:
    """Return the numbers of the episodes of each batch."""
    return [range(first, min(first + size, episodes)) for first in range(0, episodes, size)]
