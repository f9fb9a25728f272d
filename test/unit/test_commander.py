"""The thread that sends commands: what leaves for the arm when it wakes up late."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from loops import MILLISECOND, AnsweringPolicy, new_loop, started_loop

from vdd_ros.control.control_output import Command, ControlOutput
from vdd_ros.nodes.arm.commander import Commander

PERIOD = 4 * MILLISECOND
STEP = [[0.002, 0.001]]


def test_a_thread_that_wakes_up_late_sends_no_command_twice():
    """An arm takes each command for one period: one that repeats is motion that stops dead."""
    loop = new_loop(AnsweringPolicy(lambda call, seen: STEP), rules={'control_period': PERIOD})
    sent: list[ControlOutput] = []

    def send(output: ControlOutput, stamp: int) -> None:
        sent.append(output)
        if len(sent) % 10 == 0:
            time.sleep(2.25 * PERIOD / 1e9)  # the next two deadlines are over

    commander = Commander(
        loop,
        send,
        period=PERIOD,
        policy_period=20 * MILLISECOND,
        max_age=100 * MILLISECOND,
        now=time.monotonic_ns,
        simulated=False,
    )
    commander.start(time.monotonic_ns(), np.zeros(2))
    try:
        while len(sent) < 200:
            commander.observe(time.monotonic_ns(), loop.commanded)
            time.sleep(PERIOD / 1e9)
    finally:
        commander.halt('the test is over')
    moving = [
        (before.position, after.position)
        for before, after in pairwise(sent)
        if isinstance(before, Command) and before.velocity.any()
    ]
    assert len(moving) > 100
    assert not [pair for pair in moving if (pair[0] == pair[1]).all()]
    assert commander.sent == len(sent)


@pytest.mark.parametrize('kind', ['command', 'hold', 'stop'])
def test_an_output_repeats_the_one_before_it_within_half_a_period(kind):
    loop = started_loop(AnsweringPolicy(lambda call, seen: STEP), rules={'control_period': PERIOD})
    now = 0
    for now in range(0, 400 * MILLISECOND, PERIOD):
        loop.observe(now, loop.commanded)
        moved = loop.advance(now)
        assert not loop.repeats
    if kind == 'stop':
        loop.stop('somebody said so')
    now += PERIOD if kind != 'hold' else 200 * MILLISECOND  # without joint states
    moved = loop.decide(now)
    assert type(moved).__name__.lower() == kind and not loop.repeats
    again = loop.decide(now + PERIOD // 2 - 1)
    assert loop.repeats
    np.testing.assert_array_equal(again.position, moved.position)
    loop.decide(now + PERIOD)
    assert not loop.repeats
