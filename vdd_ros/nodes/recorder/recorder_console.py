"""The recorder in a terminal: a status line, and keys to start, stop, label and discard episodes."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.nodes.recorder.recorder_status import Status

KEYS = {' ': 'toggle', 's': 'toggle', 'y': 'success', 'n': 'failure', 'd': 'discard', 'q': 'quit'}
"""Key to action; `l` starts an instruction, which Enter accepts and Escape cancels."""

_HELP = 'space start, stop   y success   n failure   d discard   l instruction   q quit'
_OUTCOMES = ('success', 'failure', 'aborted', 'unlabelled', 'discarded')
_ENTER, _ESCAPE, _ERASE = ('\r', '\n'), '\x1b', ('\x7f', '\x08')


class RecorderConsole:
    """Reads keys without Enter, and draws the status in place."""

    def __init__(self, keyboard: int, console: Console) -> None:
        """Use the terminal of a file descriptor, and draw on a console."""
        self._keyboard = keyboard
        self._console = console
        self._live: Live | None = None
        self._typed: str | None = None
        self.notice = ''
        """Response to the last key."""

    @classmethod
    def of_this_terminal(cls) -> RecorderConsole:
        """Use standard input and output.

        Raises
        ------
        ConfigurationError
            Standard input or output is not a terminal.

        """
        if not sys.stdin.isatty():
            raise ConfigurationError(
                expected='a terminal for the keys',
                found='none on standard input',
                remedy='run `vdd record-live` in a terminal, or use the services without -p keys:=true',
            )
        return cls(sys.stdin.fileno(), Console())

    def start(self) -> None:
        """Configure the terminal."""
        self._settings = termios.tcgetattr(self._keyboard)
        tty.setcbreak(self._keyboard)
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def stop(self) -> None:
        """Restore the terminal."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._settings)

    def read(self) -> list[tuple[str, str]]:
        """Return the actions since the last call, with ``('label', text)`` for an instruction."""
        asked = []
        while select.select([self._keyboard], [], [], 0)[0]:
            data = os.read(self._keyboard, 1024).decode(errors='ignore')
            if not data:
                return [*asked, ('quit', '')]  # the terminal was closed
            for key in data:
                asked += self._press(key)
        return asked

    def _press(self, key: str) -> list[tuple[str, str]]:
        if self._typed is None:
            if key == 'l':
                self._typed = ''
            return [(KEYS[key], '')] if key in KEYS else []
        if key in _ENTER:
            text, self._typed = self._typed.strip(), None
            return [('label', text)] if text else []
        if key == _ESCAPE:
            self._typed = None
        elif key in _ERASE:
            self._typed = self._typed[:-1]
        elif key.isprintable():
            self._typed += key
        return []

    def draw(self, status: Status) -> None:
        """Draw the status."""
        self._live.update(Group(*render(status, self.notice, self._typed)), refresh=True)


def render(status: Status, notice: str, typed: str | None) -> list[Text]:
    """Return the lines of the status display."""
    if status.running:
        head = Text(f'● episode {status.index}  {status.seconds:6.1f} s', style='bold red')
    else:
        head = Text('○ between episodes' if status.index >= 0 else '○ no episode yet', style='bold')
    counts = '  '.join(f'{status.outcomes[name]} {name}' for name in _OUTCOMES if status.outcomes.get(name))
    head.append(f'   {counts}' if counts else '', style='not bold default')
    head.append(f'   “{status.language}”' if status.language else '', style='not bold italic cyan')
    rates = Text('  '.join(f'{topic} {rate:.0f}/s' for topic, rate in status.rates.items()), style='dim')
    disk = f'   disk {status.free / 1e9:.1f} GB free'
    if status.growth > 0:
        disk += f', {_duration(status.free / status.growth)} at this rate'
    rates.append(disk)
    lines = [head, rates]
    problem = [f'no message yet on {", ".join(status.silent)}'] if status.silent else []
    problem += [status.problem] if status.problem else []
    if problem:
        lines.append(Text('; '.join(problem), style='yellow'))
    if typed is not None:
        lines.append(Text(f'instruction: {typed}▏  (Enter accepts, Escape cancels)', style='cyan'))
    else:
        lines.append(Text(notice or _HELP, style='green' if notice else 'dim'))
    return lines


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return f'{seconds / 60:.0f} min'
    return f'{seconds / 3600:.0f} h' if seconds < 48 * 3600 else f'{seconds / 86400:.0f} days'
