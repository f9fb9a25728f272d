"""Demonstrations of tasks with cameras, recorded into a bag without ROS: physics waits for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.contract.features import TopicFeature
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.cameras import CameraRenderer
from vdd_ros.sim.demonstration import CONTROL_PERIOD, Teleoperation
from vdd_ros.sim.demonstration_tally import DETECTED, MOTION_ENDED, DemonstrationTally
from vdd_ros.sim.snapshot import snapshot
from vdd_ros.sim.tasks import Task, Verdict


def record_in_process(
    output: str | Path,
    task: Task,
    contract: Contract,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int, int, int], None] = lambda successes, failures, modes: None,
) -> None:
    """Record scripted demonstrations of a task with the images of a contract.

    Parameters
    ----------
    output
        The bag to write.
    task, contract
        The task, and the contract that defines joints and topics. Its images must be raw images of the task's cameras.
    episodes
        Number of successful demonstrations; failures are recorded, too.
    seed
        Equal seeds give equal demonstrations.
    progress
        Called with the numbers of successes, failures and modes after each demonstration.

    Raises
    ------
    ConfigurationError
        An image of the contract is compressed, is a depth image, or matches no camera of the task.
    SimulationError
        The demonstrator fails too often, or no OpenGL context is available.

    """
    _check(task, contract)
    tally, modes = DemonstrationTally(task.name), set[int | None]()
    with BagWriter(output, _topics(contract)) as writer, _Cameras(task, contract) as cameras:
        recording = _Recording(writer, cameras, task, contract, seed)
        while tally.successes < episodes:
            verdict, mode = recording.demonstrate(tally.successes + tally.failures)
            if verdict == 'success':
                tally.succeed()
                modes.add(mode)
            else:
                tally.fail(DETECTED if verdict == 'failure' else MOTION_ENDED)
            progress(tally.successes, tally.failures, len(modes))


def _check(task: Task, contract: Contract) -> None:
    unfit = [item.name for item in contract.images if 'Compressed' in item.type or item.image.color == 'depth']
    if unfit or len(contract.topic_features) > len(contract.images) or len(contract.controllers) > 1:
        raise ConfigurationError(
            expected='a contract of one controller, of joints and of raw colour images',
            found=f'{", ".join(unfit) or "other topics"} in {contract.name}',
            remedy=f'use the contract {task.contract}',
        )


def _topics(contract: Contract) -> dict[str, str]:
    names = contract.topics
    kinds = {names.joint_states: messages.JOINT_STATE, names.commands: messages.NUMBERS}
    kinds |= {names.episode: messages.MARK, **{item.topic: messages.IMAGE for item in contract.images}}
    return {_rooted(topic): kind for topic, kind in kinds.items()}


class _Recording:
    """A bag in progress, and the arm that is recorded."""

    def __init__(self, writer: BagWriter, cameras: _Cameras, task: Task, contract: Contract, seed: int) -> None:
        self._writer, self._cameras = writer, cameras
        self._task, self._contract = task, contract
        self._demonstrator = task.new_demonstrator(np.random.default_rng(seed))
        self._teleoperation = Teleoperation(
            Kinematics.from_contract(contract), task, self._demonstrator, contract.joints
        )
        self._simulation = cameras.simulation

    def demonstrate(self, number: int) -> tuple[Verdict, int | None]:
        """Record the demonstration with a number; return its verdict, and its mode."""
        task, simulation, topics = self._task, self._simulation, self._contract.topics
        task.reset(simulation, task.demonstrated_from + number)
        # Two episodes share no stamp.
        simulation.skip(task.period)
        self._demonstrator.look(simulation)
        self._teleoperation.begin(simulation.position)
        detector, verdict = task.new_success_detector(), 'running'
        # What was seen before the episode is what is seen at its start.
        for item, picture in self._cameras.begin():
            before = simulation.stamp - round((item.align.latency + item.align.delay) * NANOSECONDS)
            self._writer.write(_rooted(item.topic), before, messages.image(before, picture))
        self._write(topics.episode, messages.mark(simulation.stamp, 'start', index=number))
        self._observe()
        while not self._teleoperation.finished and verdict != 'failure':
            command = self._teleoperation.command()
            # Just after the state that it answers.
            self._write(topics.commands, messages.numbers(command), delay=1)
            simulation.set_command(command)
            simulation.step(CONTROL_PERIOD)
            self._observe()
            verdict = task.judge(detector, simulation)
        mode = detector.mode
        labels = {} if mode is None else {'mode': task.mode_names[mode]}
        outcome = 'success' if verdict == 'success' else 'failure'
        end = messages.mark(simulation.stamp, 'end', index=number, outcome=outcome, **labels)
        self._write(topics.episode, end)
        return verdict, mode

    def _observe(self) -> None:
        stamp = self._simulation.stamp
        for item, picture in self._cameras.due():
            self._write(item.topic, messages.image(stamp, picture))
        state = messages.joint_state(stamp, self._contract.joints, self._simulation.position)
        self._write(self._contract.topics.joint_states, state)

    def _write(self, topic: str, data: bytes, delay: int = 0) -> None:
        self._writer.write(_rooted(topic), self._simulation.stamp + delay, data)


class _Cameras:
    """A simulation of a task and its cameras, each at its rate."""

    def __init__(self, task: Task, contract: Contract) -> None:
        self.simulation = task.simulation(contract.joints)
        self._renderer = CameraRenderer(self.simulation, task.settings.cameras, contract)
        self._due: dict[str, int] = {}

    def __enter__(self) -> _Cameras:
        return self

    def __exit__(self, *error: object) -> None:
        self._renderer.close()

    def begin(self) -> Iterator[tuple[TopicFeature, np.ndarray]]:
        """Yield the images of the start, shape (height, width, 3), uint8; the next images are due one period later."""
        self._due = {view.feature.name: self.simulation.stamp for view in self._renderer.views}
        return self.due()

    def due(self) -> Iterator[tuple[TopicFeature, np.ndarray]]:
        """Yield the images that are due, shape (height, width, 3), uint8."""
        now, vector = self.simulation.stamp, None
        for view in self._renderer.views:
            name = view.feature.name
            if now >= self._due[name]:
                vector = snapshot(self.simulation) if vector is None else vector
                self._due[name] += view.period * (1 + (now - self._due[name]) // view.period)
                yield view.feature, self._renderer.draw(view, vector)


def _rooted(topic: str) -> str:
    return '/' + topic.lstrip('/')
