"""What a person sees of long work where no bars can be drawn."""

from __future__ import annotations

import io

from rich.console import Console

from vdd_ros.common.console import Bars


def reported(*steps: tuple[float, float]) -> list[str]:
    """Return the lines that a log has of one step's (done, total)."""
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=False)) as bars:
        for done, total in steps:
            bars('read', done, total, {})
    return stream.getvalue().splitlines()


def test_a_share_is_given_in_percent():
    """Bytes of a bag are no steps: the total is one."""
    lines = reported((0.4, 1), (1, 1))
    assert lines[0].startswith('reading the demonstrations: 40% in')
    assert lines[-1].startswith('reading the demonstrations: 100% in')


def test_steps_are_counted():
    """A line for every tenth, and the last."""
    lines = reported(*((step, 40) for step in range(1, 41)))
    assert lines[0].startswith('reading the demonstrations: 4 of 40 in')
    assert lines[-1].startswith('reading the demonstrations: 40 of 40 in')
    assert 10 <= len(lines) <= 12


def test_the_bar_of_a_share_shows_percent():
    """`0/1` would tell nothing."""
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=160)) as bars:
        bars('read', 0.25, 1, {})
    assert '25%' in stream.getvalue()
