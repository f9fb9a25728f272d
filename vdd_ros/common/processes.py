"""Nodes as child processes on a ROS graph of their own: what `ros2 launch` does where there is one."""

from __future__ import annotations

import ctypes
import functools
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from vdd_ros.common.domain import domain_environment, private_domain
from vdd_ros.common.errors import InterfaceError

Value = str | int | float | bool
DOMAIN_FILE = 'ros_domain'
"""File in the log folder with the number of the domain, for `ROS_DOMAIN_ID` of a person who wants to look in."""
FOUND = 'also in this domain: '
"""What a line of the node `domain_check` begins with that names a participant."""
_GRACE = 20.0
_PARENT_DEATH_SIGNAL = 1
_LOG_LINE = re.compile(r'^\[(?P<level>[A-Z]+)\] \[[\d.]+\] \[(?P<node>[^\]]*)\]: (?P<text>.*)$')


class NodeGraph:
    """A few nodes, started together and ended together, in a private domain of this host (`vdd_ros.common.domain`).

    Whatever `ROS_DOMAIN_ID` says, the nodes meet each other and nobody else: a simulated arm has the topics of a real
    one. Use it as a context: whatever happens inside, no process outlives it. Nodes are ended in the reverse order of
    starting, by SIGINT, and killed only if they do not react to it.
    """

    def __init__(self, log_folder: Path) -> None:
        """Claim a domain; every node's output goes to a file of its own in ``log_folder``, as does the domain's number.

        Raises
        ------
        InterfaceError
            No domain is free.

        """
        self._log_folder = log_folder
        self._nodes: dict[str, _NodeProcess] = {}
        self._claim = ExitStack()
        self.domain = self._claim.enter_context(private_domain())
        """The ROS domain of all nodes."""
        self.environment = {
            **domain_environment(self.domain),
            'ROS_LOG_DIR': str(log_folder),
            'RCUTILS_COLORIZED_OUTPUT': '0',
            'OMP_NUM_THREADS': '1',
        }

    def start(
        self, node: str, parameters: Mapping[str, Value], *, listen: Callable[[str], None] | None = None
    ) -> _NodeProcess:
        """Start a node of this package with parameters; ``listen`` is told every line that it logs."""
        arguments = [f'{name}:={_yaml(value)}' for name, value in parameters.items()]
        command = [sys.executable, '-m', 'vdd_ros.entry', node, '--ros-args']
        command += [word for argument in arguments for word in ('-p', argument)]
        self._log_folder.mkdir(parents=True, exist_ok=True)
        process = _NodeProcess(node, command, self.environment, self._log_folder / f'{node}.log', listen)
        self._nodes[node] = process
        return process

    def wait(self, node: str, poll: float = 0.1) -> None:
        """Wait until a node has finished its job.

        Raises
        ------
        InterfaceError
            It, or another node of the graph, ended in an error; the message is what that node said last.

        """
        while self._nodes[node].code is None:
            self._nodes[node].join(poll)
            for process in self._nodes.values():
                process.check()
        self._nodes[node].check()

    def __enter__(self) -> NodeGraph:
        """Look into the domain, and return itself.

        Raises
        ------
        InterfaceError
            Others take part in the domain; they are named, and no node of this graph was started.

        """
        with ExitStack() as failed:
            failed.push(self.__exit__)
            self._log_folder.mkdir(parents=True, exist_ok=True)
            (self._log_folder / DOMAIN_FILE).write_text(f'{self.domain}\n', encoding='utf-8')
            self._refuse_company()
            failed.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every node that still runs, the last started first."""
        for process in reversed(self._nodes.values()):
            process.end()
        self._claim.close()
        if kind is None:
            for process in self._nodes.values():
                process.check()

    def _refuse_company(self) -> None:
        found: list[str] = []

        def listen(line: str) -> None:
            if line.startswith(FOUND):
                found.append(line.removeprefix(FOUND))

        self.start('domain_check', {}, listen=listen)
        self.wait('domain_check')
        self._nodes.pop('domain_check').end()
        if found:
            raise InterfaceError(
                expected=f'nobody else in ROS domain {self.domain}, where a simulation is about to start',
                found=', '.join(found),
                remedy='end them, or start again: every run takes another domain',
            )


class _NodeProcess:
    """One child process and the thread that reads what it says."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        log: Path,
        listen: Callable[[str], None] | None,
    ) -> None:
        self.name = name
        self._log = log
        self._last: deque[str] = deque(maxlen=20)
        self._listen = listen
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its nodes in order
            preexec_fn=_dying_with_parent(),  # noqa: PLW1509 - one call of a loaded library
        )
        self._reader = threading.Thread(target=self._read, name=f'output of {name}', daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """The exit code, once it has ended."""
        return self._process.poll()

    def join(self, seconds: float) -> None:
        """Wait a while for the end."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def check(self) -> None:
        """Raise what the node said if it ended in an error."""
        if self.code in (None, 0):
            return
        self._reader.join(timeout=2)
        raise InterfaceError(
            expected=f'{self.name} to run',
            found=self._reason() or f'exit code {self.code}',
            remedy=f'all that it said is in {self._log}',
        )

    def end(self) -> None:
        """Ask for the end, insist if that does not help, and wait for the last words."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.code is not None:
                break
            self._process.send_signal(number)
            self.join(_GRACE if number == signal.SIGINT else 3.0)
        self._process.wait()
        self._reader.join(timeout=2)

    def _read(self) -> None:
        with self._log.open('w', encoding='utf-8') as file:
            for line in self._process.stdout:
                file.write(line)
                file.flush()
                match = _LOG_LINE.match(line.rstrip())
                text = match['text'] if match else line.rstrip()
                if match is None or match['level'] in ('ERROR', 'FATAL'):
                    self._last.append(text)
                if self._listen is not None:
                    self._listen(text)

    def _reason(self) -> str:
        return self._last[-1] if self._last else ''


def _dying_with_parent() -> Callable[[], object] | None:
    """Return what asks Linux, in a child, to end it when its parent is gone, even if that was killed."""
    if sys.platform != 'linux':
        return None
    # Looked up before the fork: between fork and exec a child had better not load anything.
    return functools.partial(ctypes.CDLL(None).prctl, _PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, (int, float)) else f'"{value}"'
