"""What a command tells the person who runs it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

out = Console()


def say(text: str) -> None:
    """Print a line."""
    out.print(text, highlight=False)


def beside(path: Path, name: str) -> Path:
    """Return where what comes along with an output lies."""
    return path.with_name(f'{path.name}.{name}')


def summarize(report: dict, output: Path) -> None:
    """Print the figures of a validation that decide."""
    teacher, student = report['teacher'], report['student']
    say(f'teacher: success {teacher["success"]:.3f}, entropy {teacher["entropy"]:.3f}')
    say(f'student: success {student["success"]:.3f}, entropy {student["entropy"]:.3f}')
    if report['ros']['episodes']:
        say(f'over ROS: success {report["ros"]["success"]:.2f} of {report["ros"]["episodes"]}')
    say(
        f'one answer is {report["speedup"]:.0f} x as fast as that of the teacher in eager torch, '
        f'{report["speedup_same_runtime"]:.0f} x in the same runtime'
    )
    say(f'now open {output / "report.html"}')
