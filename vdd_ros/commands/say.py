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
    """Print the figures of a validation that decide, and the verdict."""
    for scenario in report['scenarios']:
        figures = [
            f'{who} {scenario[who]["success"]:.3f} / {scenario[who]["entropy"]:.3f}'
            for who in ('teacher', 'student', 'recorded')
            if scenario[who]
        ]
        say(f'{scenario["name"].replace("_", " ")}, success / entropy: {", ".join(figures)}')
    if report['ros']['episodes']:
        say(f'over ROS: success {report["ros"]["success"]:.2f} of {report["ros"]["episodes"]}')
    if 'speedup' in report:
        say(
            f'one answer is {report["speedup"]:.0f} x as fast as that of the teacher in eager torch, '
            f'{report["speedup_same_runtime"]:.0f} x in the same runtime'
        )
    if 'gate' in report:
        gate = report['gate']
        out.print(f'[bold green]passes[/]: {gate["text"]}' if gate['passes'] else f'[bold red]fails[/]: {gate["text"]}')
    say(f'now open {output / "report.html"}')
