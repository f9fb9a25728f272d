"""Run nodes as child processes in a private ROS graph, without `ros2 launch`."""

from __future__ import annotations

import ctypes
import functools
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from vdd_ros.common.domain import domain_environment, private_domain
from vdd_ros.common.errors import InterfaceError

Value = str | int | float | bool | Sequence[str] | Sequence[int]
DOMAIN_FILE = 'ros_domain'
"""File in the log folder with the domain number, for inspection with `ROS_DOMAIN_ID`."""
FOUND = 'also in this domain: '
"""Beginning of a line of the node `domain_check` that names a participant."""
_GRACE = 20.0
_PARENT_DEATH_SIGNAL = 1
_REPORTED = re.compile(r'^expected (?P<expected>.+?); found (?P<found>.+); (?P<remedy>.+?)$')
_LOG_LINE = re.compile(r'^\[(?P<level>[A-Z]+)\] \[[\d.]+\] \[(?P<node>[^\]]*)\]: (?P<text>.*)$')


class NodeGraph:
    """Nodes that are started and stopped together, in a private domain of this host (`vdd_ros.common.domain`).

    The nodes are isolated from other nodes regardless of `ROS_DOMAIN_ID`, because a simulated arm has the same topics
    as the real arm. Use the graph as a context manager: all processes end with the context. Nodes are stopped in
    reverse order with SIGINT, and killed only if they do not react.
    """

    def __init__(self, log_folder: Path) -> None:
        """Reserve a domain. The output of every node, and the domain number, are written to files in ``log_folder``.

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
        """Start a node of this package with parameters; ``listen`` is called with every line that the node logs."""
        arguments = [f'{name}:={_yaml(value)}' for name, value in parameters.items()]
        command = [sys.executable, '-m', 'vdd_ros.entry', node, '--ros-args']
        command += [word for argument in arguments for word in ('-p', argument)]
        self._log_folder.mkdir(parents=True, exist_ok=True)
        process = _NodeProcess(node, command, self.environment, self._log_folder / f'{node}.log', listen)
        self._nodes[node] = process
        return process

    def wait(self, node: str, poll: float = 0.1) -> None:
        """Wait until a node has finished.

        Raises
        ------
        InterfaceError
            The node, or another node of the graph, ended with an error; the message is its last output.

        """
        while self._nodes[node].code is None:
            self._nodes[node].join(poll)
            for process in self._nodes.values():
                process.check()
        self._nodes[node].check()

    def __enter__(self) -> NodeGraph:
        """Check that the domain has no participants.

        Raises
        ------
        InterfaceError
            The domain has other participants, which are listed. No node was started.

        """
        with ExitStack() as failed:
            failed.push(self.__exit__)
            self._log_folder.mkdir(parents=True, exist_ok=True)
            (self._log_folder / DOMAIN_FILE).write_text(f'{self.domain}\n', encoding='utf-8')
            self._check_participants()
            failed.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all running nodes in reverse order."""
        for process in reversed(self._nodes.values()):
            process.end()
        self._claim.close()
        if kind is None:
            for process in self._nodes.values():
                process.check()

    def _check_participants(self) -> None:
        found: list[str] = []

        def listen(line: str) -> None:
            if line.startswith(FOUND):
                found.append(line.removeprefix(FOUND))

        self.start('domain_check', {}, listen=listen)
        self.wait('domain_check')
        self._nodes.pop('domain_check').end()
        if found:
            raise InterfaceError(
                expected=f'no other participants in ROS domain {self.domain}',
                found=', '.join(found),
                remedy='stop them, or start again: every run uses another domain',
            )


class _NodeProcess:
    """One child process and the thread that reads its output."""

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
            start_new_session=True,  # Ctrl-C reaches only the parent, which stops its nodes in order
            preexec_fn=_dying_with_parent(),  # noqa: PLW1509 - one call of a loaded library
        )
        self._reader = threading.Thread(target=self._read, name=f'output of {name}', daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """The exit code, once it has ended."""
        return self._process.poll()

    def join(self, seconds: float) -> None:
        """Wait up to a time for the end."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return

    def check(self) -> None:
        """Raise an error with the output of the node if it failed."""
        if self.code in (None, 0):
            return
        self._reader.join(timeout=2)
        reason, log = self._reason(), f'see the log {self._log}'
        if (reported := _REPORTED.match(reason)) is not None:
            # An error of this package: its parts are passed on, instead of an error within an error.
            parts = reported.groupdict()
            raise InterfaceError(**{**parts, 'remedy': f'{parts["remedy"]}; {log}'})
        raise InterfaceError(expected=f'{self.name} to run', found=reason or f'exit code {self.code}', remedy=log)

    def end(self) -> None:
        """Stop the node, kill it if it does not react, and read the remaining output."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.code is not None:
                break
            self._process.send_signal(number)
            self.join(_GRACE if number == signal.SIGINT else 3.0)
        self._process.wait()
        self._reader.join(timeout=2)

    def _read(self) -> None:
        with self._log.open('w', encoding='utf-8') as file:
            for line in self._process.stdout or ():
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
    """Return a function that makes Linux end a child process together with its parent."""
    if sys.platform != 'linux':
        return None
    # Looked up before the fork: loading a library between fork and exec is unsafe.
    return functools.partial(ctypes.CDLL(None).prctl, _PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f'[{", ".join(map(_yaml, value))}]'
    return repr(value) if isinstance(value, (int, float)) else f'"{value}"'
