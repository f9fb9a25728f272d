"""Real processes on real DDS, each test on a domain of its own, and none left over."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from vdd_ros.common.domain import in_domain, private_domain

PATIENCE = 30.0


class Process:
    """A node in a process of its own, started as a user would."""

    def __init__(
        self, node: str, parameters: dict[str, object], log: Path, use_sim_time: bool, names: dict[str, str]
    ) -> None:
        """Start ``python -m vdd_ros.entry NODE`` with parameters by name, and other names for topics."""
        arguments = [sys.executable, '-m', 'vdd_ros.entry', node, '--ros-args']
        for name, other in names.items():
            arguments += ['-r', f'{name}:={other}']
        for name, value in {'use_sim_time': use_sim_time, **parameters}.items():
            arguments += ['-p', f'{name}:={value}']
        self.log = log
        with log.open('w') as output:
            self._process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, env=os.environ)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self.log.read_text()

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self._process.wait(PATIENCE)

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


class Graph:
    """One test's ROS graph."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Use a folder for what the processes say."""
        self.folder = folder
        self.processes: list[Process] = []
        self._executor = SingleThreadedExecutor()
        self._stack = stack

    def start(
        self, module: str, use_sim_time: bool = True, names: dict[str, str] | None = None, **parameters: object
    ) -> Process:
        """Start a node of the package as a process, with other names for some that it uses, as a launch would."""
        log = self.folder / f'{module}{len(self.processes)}.txt'
        self.processes.append(Process(module, parameters, log, use_sim_time, names or {}))
        return self.processes[-1]

    def node(self, name: str) -> Node:
        """Make a node in this process, spun by `until`."""
        node = Node(name)
        self._stack.callback(node.destroy_node)
        self._executor.add_node(node)
        return node

    def drop(self, node: Node) -> None:
        """Take a node of this process out of the graph before the test's end."""
        self._executor.remove_node(node)
        node.destroy_node()

    def end(self) -> list[Path]:
        """End every process that still runs; return the logs of those that had to be killed."""
        left = [process for process in self.processes if process.alive]
        for process in left:
            process.send(signal.SIGINT)
        killed = []
        for process in left:
            try:
                process.wait()
            except subprocess.TimeoutExpired:
                process.kill()
                killed.append(process.log)
        return killed

    def add(self, node: Node) -> None:
        """Let a node that the test has made be spun by `until`, and be destroyed at the end."""
        self._stack.callback(node.destroy_node)
        self._executor.add_node(node)

    def spin(self) -> None:
        """Let callbacks run for a moment."""
        self._executor.spin_once(timeout_sec=0.02)

    def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Spin until something is so; a test that waits in vain fails with what the processes said."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                printed = '\n'.join(f'--- {process.log.name}\n{process.text}' for process in self.processes)
                pytest.fail(f'waited in vain; the processes said:\n{printed}')
            self._executor.spin_once(timeout_sec=0.02)


@contextmanager
def open_graph(folder: Path, arguments: Sequence[str] = ()) -> Iterator[Graph]:
    """Open a graph on a domain of its own; at the end every process must end by itself or on SIGINT.

    The arguments are for nodes in this process, as behind ``--ros-args``.
    """
    with ExitStack() as stack:
        stack.enter_context(in_domain(stack.enter_context(private_domain())))
        rclpy.init(args=['--ros-args', *arguments] if arguments else None)
        stack.callback(gc.collect)  # a node of this process that is still referred to answers for ever, and to nobody
        stack.callback(rclpy.try_shutdown)
        graph = Graph(folder, stack)
        yield graph
        assert not graph.end(), 'did not end on SIGINT'


@pytest.fixture
def graph_with(tmp_path: Path) -> Iterator[Callable[..., Graph]]:
    """A graph of its own for a test, opened with arguments for the nodes in this process."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(open_graph(tmp_path, arguments))


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    """A graph of its own for a test."""
    with open_graph(tmp_path) as graph:
        yield graph


@pytest.fixture(scope='session')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of a few demonstrations, recorded once for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base) / 'recording'
    folder.mkdir(exist_ok=True)
    with (folder / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / 'bag').exists():
            _record(folder)
    return folder / 'bag'


def _record(folder: Path) -> None:
    with open_graph(folder) as graph:
        bridge = graph.start('mujoco_bridge', command_rate=200.0)
        recorder = graph.start('recorder', output=folder / 'bag')
        demonstrator = graph.start('demonstrator', episodes=6, recorder='recorder')
        assert [demonstrator.wait(), recorder.stop(), bridge.stop()] == [0, 0, 0]


@pytest.fixture(scope='module')
def shared_graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """One graph for all tests of a module."""
    with open_graph(tmp_path_factory.mktemp('graph')) as graph:
        yield graph
