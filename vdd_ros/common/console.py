"""What a person sees while a job runs in a terminal: a bar for each step, with rate and time left."""

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
    'record': 'demonstrating and recording',
    'read': 'reading the demonstrations',
    'recover': 'recovering the bag',
    'inspect': 'looking at the bag',
    'shadow': 'asking the student',
    'import': 'importing the dataset',
    'teacher': 'training the teacher',
    'labels': 'labelling by the teacher',
    'rounds': 'acting in simulation',
    'student': 'distilling the student',
    'em': 'fitting by likelihood (EM)',
    'teacher export': 'exporting the teacher',
    'student export': 'exporting the student',
    'teacher rollouts': 'rolling out the teacher',
    'student rollouts': 'rolling out the student',
    'recorded rollouts': 'doing recorded actions again',
    'films': 'filming',
    'ros': 'rolling out over ROS',
    'latency': 'measuring latency',
    'report': 'writing the report',
}


def table(title: str, first: str, *others: str, texts: Sequence[str] = ()) -> Table:
    """Return a table that fits 80 columns where its numbers allow it.

    Parameters
    ----------
    title
        Above it; may be empty.
    first
        Heading of the first column, whose texts are folded where they are too long.
    others
        Headings of the others: numbers, on the right. A space in a heading is where it may be broken.
    texts
        Those of the others that hold texts, too.

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
    """A `Progress` that draws bars; use it as a context."""

    def __init__(self, console: Console) -> None:
        """Draw on a console; where that is no terminal, a line for every tenth of a step."""
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
            self._tell()
            self._done = 0.0
            self._tasks[step] = self._progress.add_task(LABELS.get(step, step), total=total, metrics='')
        task = self._tasks[step]
        told = self._console.is_terminal or done >= total or int(10 * done / total) == int(10 * self._done / total)
        self._done = done
        text = '  '.join(f'{name.replace("_", " ")} {value:.4g}' for name, value in metrics.items())
        self._progress.update(task, completed=done, total=total, metrics=text)
        if not told:
            self._tell()

    def _tell(self) -> None:
        """Where bars cannot be drawn, say in a line how far the present step is."""
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
        """Leave the bars as they are."""
        if self._console.is_terminal:
            self._progress.stop()
        self._tell()


def _amount(task: Task) -> str:
    """Say how much is done; where steps are not counted, the total is one."""
    return f'{task.completed:.0%}' if task.total == 1 else f'{task.completed:g} of {task.total:g}'


class _Done(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_amount(task), style='green')


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = None if task.total == 1 else task.finished_speed or task.speed
        return Text(f'{rate:.1f}/s' if rate else '', style='cyan')


class Interruption:
    """Ctrl-C as a question: `asked` tells whether it came, so that training can save before it stops.

    A second Ctrl-C is not a question.
    """

    def __init__(self) -> None:
        """Not asked yet."""
        self.asked = False

    def __call__(self) -> bool:
        """Tell whether to stop; what `training.fit` asks."""
        return self.asked

    def __enter__(self) -> Interruption:
        """Listen to SIGINT and SIGTERM."""
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore what was there, and pass the interruption on."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
