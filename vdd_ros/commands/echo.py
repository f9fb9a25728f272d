"""Console output of the commands."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from vdd_ros.common.console import table

out = Console()


def echo(text: str) -> None:
    """Print a line."""
    out.print(text, highlight=False, markup=False)


def beside(path: Path, name: str) -> Path:
    """Return the default path of a file or folder in the folder of an output."""
    return path.with_name(f'{path.name}.{name}')


def summarize(report: dict, output: Path) -> None:
    """Print the decisive metrics of a validation, and the verdict."""
    first = report['scenarios'][0]
    policies = [who for who in ('student', 'teacher', 'recorded') if first[who]]
    columns = (f'{who} {figure}' for who in policies for figure in ('success', 'entropy'))
    worlds = table('', 'scenario', *columns)
    for scenario in report['scenarios']:
        found = [scenario[who] or {} for who in policies]
        figures = [f'{each[name]:.3f}' if name in each else '' for each in found for name in ('success', 'entropy')]
        worlds.add_row(scenario['name'].replace('_', ' '), *figures)
    out.print(worlds)
    if report['ros']['episodes']:
        echo(f'over ROS: success {report["ros"]["success"]:.2f} of {report["ros"]["episodes"]}')
    if 'speedup' in report:
        echo(
            f'one call is {report["speedup"]:.0f} times faster than the teacher in eager torch, '
            f'{report["speedup_same_runtime"]:.0f} times in the same runtime'
        )
    if 'gate' in report:
        passes, text = report['gate']['passes'], report['gate']['text']
        out.print('[bold green]passes' if passes else '[bold red]does not pass', end=': ')
        echo(text)
    echo(f'open {output / "report.html"}')
