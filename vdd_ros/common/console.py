"""Progress display of a job in a terminal: one bar per step, with rate and remaining time."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

LABELS = {
    'record': 'recording demonstrations',
    'read': 'reading the demonstrations',
    'recover': 'recovering the bag',
    'inspect': 'inspecting the bag',
    'shadow': 'evaluating the student',
    'import': 'importing the dataset',
    'teacher': 'training the teacher',
    'labels': 'labelling with the teacher',
    'rounds': 'rolling out in simulation',
    'student': 'distilling the student',
    'em': 'fitting by likelihood (EM)',
    'teacher export': 'exporting the teacher',
    'student export': 'exporting the student',
    'teacher rollouts': 'rolling out the teacher',
    'student rollouts': 'rolling out the student',
    'recorded rollouts': 'replaying recorded actions',
    'films': 'filming',
    'ros': 'rolling out over ROS',
    'latency': 'measuring latency',
    'report': 'writing the report',
}


def table(title: str, first: str, *others: str, texts: Sequence[str] = ()) -> Table:
    """Return a table that fits 80 columns if its numbers permit.

    Parameters
    ----------
    title
        Title above the table; may be empty.
    first
        Heading of the first column, whose texts are wrapped.
    others
        Headings of the other columns: numbers, right aligned. Headings can wrap at spaces.
    texts
        The other columns that contain texts.

    """
    made = Table(
        title=escape(title) or None,
        title_justify='left',
        title_style='bold',
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    made.add_column(escape(first), overflow='fold')
    for name in others:
        if name in texts:
            made.add_column(escape(name), overflow='fold')
        else:
            made.add_column(escape(name.replace(' ', '\n')), justify='right', no_wrap=True)
    return made


class Bars:
    """A `Progress` that draws bars; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        """Draw on a console; without a terminal, print a line for every tenth of a step."""
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._done = 0.0
        self._progress = RichProgress(
            TextColumn('[bold]{task.description:<28}'),
            BarColumn(bar_width=28),
            _Done(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn('[dim]{task.fields[metrics]}'),
            console=console,
        )

    def __call__(self, step: str, done: float, total: float, metrics: Mapping[str, float]) -> None:
        """Advance the bar of a step."""
        if step not in self._tasks:
            self._print_progress()
            self._done = 0.0
            self._tasks[step] = self._progress.add_task(LABELS.get(step, step), total=total, metrics='')
        task = self._tasks[step]
        shown = self._console.is_terminal or done >= total or int(10 * done / total) == int(10 * self._done / total)
        self._done = done
        text = '  '.join(f'{name.replace("_", " ")} {value:.4g}' for name, value in metrics.items())
        self._progress.update(task, completed=done, total=total, metrics=text)
        if not shown:
            self._print_progress()

    def _print_progress(self) -> None:
        """Print the progress of the current step in a line, where bars cannot be drawn."""
        if self._console.is_terminal or not self._progress.tasks:
            return
        task = self._progress.tasks[-1]
        figures = f'{_amount(task)} in {task.elapsed or 0.0:.1f} s  {task.fields["metrics"]}'
        self._console.print(f'{task.description}: {figures}', highlight=False, soft_wrap=True)

    def __enter__(self) -> Bars:
        """Start drawing."""
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing; the bars remain."""
        if self._console.is_terminal:
            self._progress.stop()
        self._print_progress()


def _amount(task: Task) -> str:
    """Return the amount done; steps without a count have a total of one."""
    return f'{task.completed:.0%}' if task.total == 1 else f'{task.completed:g} of {task.total:g}'


class _Done(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_amount(task), style='green')


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = None if task.total == 1 else task.finished_speed or task.speed
        return Text(f'{rate:.1f}/s' if rate else '', style='cyan')


class Interruption:
    """Handles Ctrl-C as a request to stop, which lets training save a checkpoint first.

    A second Ctrl-C interrupts immediately.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.requested = False

    def __call__(self) -> bool:
        """Return whether a stop was requested; called by `training.fit`."""
        return self.requested

    def __enter__(self) -> Interruption:
        """Handle SIGINT and SIGTERM."""
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous handlers, and raise the interruption."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.requested and kind is None:
            raise KeyboardInterrupt

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
