"""Run episodes side by side in one process: simulated arms with control loops and one batched policy."""

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
from vdd_ros.control.planner import PolicyCoroutine
from vdd_ros.policy.routing import Mixture
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.arm import SimulatedArm
from vdd_ros.sim.cameras import CameraRenderer, SimulatedCameras
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import SuccessDetector, Task, Verdict
from vdd_ros.validation.policies import BatchedPolicy, Recorded, batched
from vdd_ros.validation.trial import Timing

_FAR = 0.25
"""Maximum distance to obstacles that is measured [m]."""


@dataclass
class Record:
    """The record of an episode, small enough to be sent between processes."""

    path: list[np.ndarray] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    experts: list[int] = field(default_factory=list)
    clamped: int = 0
    clearance: float = _FAR
    verdict: Verdict = 'running'
    mode: int | None = None
    cause: str = ''
    """Why the episode failed."""
    clamps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Number of commands changed by a limit, by kind of limit and joint."""
    commands: list[np.ndarray] = field(default_factory=list)
    """The command of every control period, if `Timing.keeps_commands`, shape (joint,) [rad] each."""


@dataclass
class _Episode:
    number: int
    arm: SimulatedArm
    loop: ControlLoop
    success_detector: SuccessDetector
    record: Record
    expert: int | None = None
    """The acting expert, if the policy selects it."""
    states: deque = field(default_factory=deque)
    """Pending joint states: arrival time [ns] and measurement."""
    pending: tuple | None = None
    """A pending plan: arrival time [ns], its coroutine, and the policy output."""
    latencies: np.random.Generator | None = None
    cameras: SimulatedCameras | None = None
    """The images of the contract, if it has some."""
    outcome: ControlOutput | None = None
    """The last control output."""


class Runner:
    """Runs batches of episodes of one task with one contract."""

    def __init__(self, task: Task, contract: Contract, deployment: Deployment, timing: Timing | None = None) -> None:
        """Load the kinematics of the arm; without ``timing`` the simulation waits for the policy (lockstep).

        Raises
        ------
        ConfigurationError
            The policy observes other sensors than joints and cameras.

        """
        if others := [feature for feature in contract.topic_features if feature not in contract.images]:
            raise ConfigurationError(
                expected='a policy that observes joints and cameras only, for rollouts in process',
                found=f'the feature {others[0].name}, which has a topic of its own',
                remedy='validate it over ROS: --episodes 0 --ros-episodes 100',
            )
        self._task = task
        self._contract = contract
        self._deployment = deployment
        self._timing = timing
        self._kinematics = Kinematics.from_contract(contract)
        self._simulations: list[Simulation] = []
        self._renderer: CameraRenderer | None = None

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
            The policy (see `vdd_ros.validation.policies`), and the disturbances.
        episodes
            Episode numbers, which determine start states, recorded actions and random numbers.
        seed
            Random seed; the scene of an episode depends on seed and number only.
        ended
            Called after each step with the number of episodes that ended in this step.

        """
        contract, batch = self._contract, batched(policy, self._contract, self._kinematics)
        generator = np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(0, episodes.start)))
        while len(self._simulations) < len(episodes):
            self._simulations.append(self._new_simulation())
        started = [
            self._start(simulation, disturbances, batch, number, seed)
            for simulation, number in zip(self._simulations, episodes)
        ]
        running = started
        if self._timing is not None:
            with _without_cycles():
                self._run_deployed(started, batch, generator, ended)
            return [each.record for each in started]
        with _without_cycles():
            speed = batch.deployed(self._deployment).speed
            for step in range(round(self._task.max_steps * self._task.period / contract.period / speed)):
                self._decide(running, batch, int(step * speed), generator)
                running = _still_running(running, ended)
                if not running:
                    break
        _time_out(running, ended)
        return [each.record for each in started]

    def _new_simulation(self) -> Simulation:
        """Return a scene whose physics steps divide a control period."""
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
        batch: BatchedPolicy,
        generator: np.random.Generator,
        ended: Callable[[int], None],
    ) -> None:
        """Run episodes with the timing of the deployment: commands at control rate, delayed plans and joint states."""
        timing, contract = self._timing, self._contract
        period = timing.control_period
        deployment = batch.deployed(self._deployment)
        speed = deployment.speed
        ticks = round(self._task.max_steps * self._task.period / speed / period)
        judged = max(1, round(contract.period / period))
        states = max(1, round(timing.state_period / period))
        latencies = np.array(timing.latency) * timing.latency_scale * NANOSECONDS
        running = started
        for tick in range(ticks):
            requests, pending = [], []
            for episode in running:
                planning = self._tick_deployed(episode, tick % states == 0)
                if planning is not None:
                    requests.append(planning[1])
                    pending.append((episode, planning[0]))
            if pending:
                numbers = [episode.number for episode, _ in pending]
                commanded = [episode.loop.commanded for episode, _ in pending]
                step = int(tick * period * speed) // contract.period
                outputs = batch.of(requests, numbers, commanded, step, generator)
                for (episode, planning), output in zip(pending, outputs):
                    episode.expert = output.expert
                    late = int(latencies[episode.latencies.integers(len(latencies))])
                    episode.pending = episode.arm.simulation.stamp + late, planning, output.mixture
            for episode in running:
                self._step_deployed(episode, period, judge=tick % judged == judged - 1)
            running = _still_running(running, ended)
            if not running:
                break
        for episode in started:
            episode.record.clamps = dict(episode.loop.counters().clamps)
        _time_out(running, ended)

    def _tick_deployed(self, episode: _Episode, measures: bool) -> tuple[PolicyCoroutine[bool], object] | None:
        """Deliver what has arrived and send the next command; return the coroutine of a due plan, and its request."""
        arm, loop, record = episode.arm, episode.loop, episode.record
        now = arm.simulation.stamp
        self._see(episode)
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
        record.verdict = task.judge(episode.success_detector, simulation)
        record.mode = episode.success_detector.mode
        if record.verdict == 'failure':
            record.cause = 'collision'
        expert = -1
        if acted:
            expert = outcome.expert if episode.expert is None else episode.expert
        record.path.append(simulation.place(task.tool))
        record.states.append(simulation.data.qpos.copy())
        record.experts.append(expert)
        record.clearance = simulation.clearance(task.moving, task.obstacles, record.clearance)

    def _start(
        self,
        simulation: Simulation,
        disturbances: Disturbances,
        batch: BatchedPolicy,
        number: int,
        seed: np.random.SeedSequence,
    ) -> _Episode:
        start = self._start_of(batch, simulation, number)
        self._task.reset(simulation, start)
        arm = SimulatedArm(simulation, disturbances)
        arm.begin(np.random.SeedSequence(seed.entropy, spawn_key=(1, number)))
        chance = np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(2, number)))
        cameras = None
        if self._contract.images:
            cameras = SimulatedCameras(self._renderer_of(simulation), simulation, disturbances)
            cameras.begin(np.random.SeedSequence(seed.entropy, spawn_key=(4, number)))
        loop = batch.deployed(self._deployment).build_loop(
            self._contract,
            batch,
            self._kinematics,
            period=self._contract.period if self._timing is None else self._timing.control_period,
            generator=chance,
            streams=cameras,
            guarded=self._timing is not None,
        )
        loop.start(simulation.stamp, arm.measured.position)
        record = Record(path=[simulation.place(self._task.tool)], states=[simulation.data.qpos.copy()])
        latencies = np.random.default_rng(np.random.SeedSequence(seed.entropy, spawn_key=(3, number)))
        detector = self._task.new_success_detector()
        return _Episode(number, arm, loop, detector, record, latencies=latencies, cameras=cameras)

    def _renderer_of(self, simulation: Simulation) -> CameraRenderer:
        """Return what draws the images of all simulations in this process."""
        if self._renderer is None:
            self._renderer = CameraRenderer(simulation, self._task.settings.cameras, self._contract)
        return self._renderer

    def _see(self, episode: _Episode) -> None:
        """Take the images that are due, and note which have arrived."""
        if episode.cameras is None:
            return
        episode.cameras.look()
        for feature in self._contract.images:
            episode.loop.on_message(feature.name, episode.cameras.stamp(feature.name))

    def _start_of(self, batch: BatchedPolicy, simulation: Simulation, number: int) -> int:
        """Return the start of an episode; for a recording, the most similar one."""
        if not isinstance(batch.policy, Recorded) or len(self._task.starts) == 1:
            return number
        distances = []
        for start in range(len(self._task.starts)):
            self._task.reset(simulation, start)
            distances.append(batch.distance_at_start(number, simulation.position))
        return int(np.argmin(distances))

    def _decide(
        self, running: Sequence[_Episode], batch: BatchedPolicy, step: int, generator: np.random.Generator
    ) -> None:
        """Advance all control loops by one policy period, with one batched policy call, and all arms."""
        pending: list[tuple[_Episode, PolicyCoroutine[ControlOutput]]] = []
        requests = []
        for episode in running:
            measured = episode.arm.measured
            episode.loop.observe(measured.stamp, measured.position)
            self._see(episode)
            advancing = episode.loop.advancing(episode.arm.simulation.stamp)
            try:
                requests.append(next(advancing))
                pending.append((episode, advancing))
            except StopIteration as end:
                self._act(episode, end.value)
        if not pending:
            return
        numbers = [episode.number for episode, _ in pending]
        commanded = [episode.loop.commanded for episode, _ in pending]
        outputs = batch.of(requests, numbers, commanded, step, generator)
        for (episode, advancing), output in zip(pending, outputs):
            episode.expert = output.expert
            self._act(episode, _sent(advancing, output.mixture))

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
                # No operator could resume, so the episode has failed.
                record.verdict, record.cause = 'failure', outcome.reason
                return
        arm.command(outcome.position)
        try:
            arm.step(self._contract.period)
        except SimulationError:
            # With some random physical parameters the policy may make the simulation unstable.
            record.verdict, record.cause = 'failure', 'the simulation diverged'
            return
        record.verdict = task.judge(episode.success_detector, simulation)
        if record.verdict == 'failure':
            record.cause = 'collision'
        record.mode = episode.success_detector.mode
        record.path.append(simulation.place(task.tool))
        record.states.append(simulation.data.qpos.copy())
        record.experts.append(expert)
        record.clearance = simulation.clearance(task.moving, task.obstacles, record.clearance)


def _sent(advancing: PolicyCoroutine[ControlOutput], mixture: Mixture) -> ControlOutput:
    """Send a policy output to a loop, and return its control output."""
    try:
        advancing.send(mixture)
    except StopIteration as end:
        return end.value
    raise RuntimeError('a control loop sent two requests in one period')


def _finished(planning: PolicyCoroutine[bool], mixture: Mixture) -> None:
    """Send a policy output to a planning coroutine: the plan has arrived."""
    try:
        planning.send(mixture)
    except StopIteration:
        return
    raise RuntimeError('a plan sent two requests')


@contextlib.contextmanager
def _without_cycles() -> Iterator[None]:
    """Disable the cyclic garbage collector meanwhile: there is no cyclic garbage, and it costs a tenth of the time."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


def batches_of(episodes: int, size: int) -> Sequence[range]:
    """Return the episode numbers of each batch."""
    return [range(first, min(first + size, episodes)) for first in range(0, episodes, size)]


def _still_running(episodes: list[_Episode], ended: Callable[[int], None]) -> list[_Episode]:
    """Return the episodes without a verdict, and report how many have one."""
    running = [each for each in episodes if each.record.verdict == 'running']
    ended(len(episodes) - len(running))
    return running


def _time_out(episodes: list[_Episode], ended: Callable[[int], None]) -> None:
    """Judge the episodes that have taken as long as the task allows."""
    for episode in episodes:
        episode.record.verdict, episode.record.cause = 'failure', 'time-out'
    ended(len(episodes))
