"""What the live policy observes is what the bag would have taught it, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.bag_making import SECOND, rich_contract, rich_rows, write_rows
from vdd_ros.contract.contract import Contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.control_output import Command, Hold
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.bag.bag_definitions import standard
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.data.episode import Episode
from vdd_ros.policy.routing import Routing

ROWS = rich_rows(6.0)


def streams(contract: Contract, arm: bool = True) -> LiveStreams:
    """Return live streams without ROS."""
    return LiveStreams(contract, lambda topic: (standard(), False), arm=arm)


@pytest.fixture(scope='module')
def episodes(tmp_path_factory: pytest.TempPathFactory) -> list[Episode]:
    """What the bag gives."""
    report = ConversionReport()
    path = write_rows(tmp_path_factory.mktemp('rich') / 'bag', ROWS, compression='zstd', chunk=100_000)
    found = list(convert(path, rich_contract(), None, report))
    assert len(found) == 2 and min(map(len, found)) > 40
    assert not [entry for entry in report.entries if entry.kind in ('message', 'part', 'episode')], report.entries
    assert any((entry.where, entry.why) == ('object', 'stamps not in order: sorted') for entry in report.entries)
    return found


def test_every_feature_of_every_tick_is_equal_bit_for_bit(episodes):
    contract = rich_contract()
    live = streams(contract)
    rows = iter(ROWS)
    row = next(rows)
    starts = [stamp for topic, stamp, _, data in ROWS if topic == 'episode' and b'start' in data]
    for start, episode in zip(starts, episodes):
        for number, tick in enumerate(episode.stamps.tolist()):
            while row is not None and row[1] <= tick:
                live.take(row[0], row[1], row[3])
                row = next(rows, None)
            if number == 0:
                live.begin(start)
            found, stale = live.observation(tick, None)
            assert not stale
            assert found.tobytes() == episode.observation[number].tobytes()
    assert not live.report.dropped('message')


def test_an_arm_that_commands_itself_observes_the_same(episodes):
    contract = rich_contract()
    live = streams(contract, arm=False)
    assert 'arm_controller/commands' not in live.topics
    (episode, _) = episodes
    arm = PolicyInterface(contract, None)
    rows = iter(ROWS)
    row = next(rows)
    for number, tick in enumerate(episode.stamps.tolist()):
        while row is not None and row[1] <= tick:
            live.take(row[0], row[1], row[3]) if row[0] in live.topics else None
            row = next(rows, None)
        sample = live.at(tick)
        assert not sample.stale
        measured, commanded = episode.observation[number, :7], episode.observation[number, 7:14]
        arm.anchor(measured)
        arm.sent(commanded)
        window = arm.observe(measured, sample.values)
        assert window[-1].tobytes() == episode.observation[number].tobytes()


def test_a_stream_that_ceases_is_named(episodes):
    live = streams(rich_contract(), arm=False)
    assert set(live.at(SECOND).stale) == {feature.name for feature in rich_contract().topic_features}
    for topic, received, _, data in ROWS:
        if topic in live.topics and not (topic == 'wrench' and received > 2 * SECOND):
            live.take(topic, received, data)
    assert live.at(2 * SECOND).stale == ()
    assert live.at(3 * SECOND).stale == ('force',)
    live.forget()
    assert 'object' in live.at(3 * SECOND).stale


def test_what_is_no_message_is_counted_and_changes_nothing():
    live = streams(rich_contract())
    live.take('load', 1, b'\0\1\0\0short')
    assert live.report.dropped('message', 'load') == 1
    assert 'load' in live.at(2).stale


class _Recorded:
    """A policy that stays where it is and remembers what it saw."""

    def __init__(self, contract: Contract) -> None:
        self.windows: list[np.ndarray] = []
        self._shape = (1, 1, contract.prediction_horizon, contract.action_size)

    def experts(self, observation: np.ndarray) -> SimpleNamespace:
        self.windows.append(observation[0])
        return SimpleNamespace(log_gating=np.zeros((1, 1)), mean=np.zeros(self._shape))


def test_the_control_loop_sees_the_streams_and_holds_while_one_has_no_messages(episodes):
    contract = rich_contract()
    live, policy = streams(contract, arm=False), _Recorded(contract)
    wide = np.full(7, 100.0)
    loop = ControlLoop(
        contract,
        policy,
        None,
        limits=Limits(-wide, wide, wide, 100.0),
        freshness=Freshness(contract.period),
        routing=Routing(),
        generator=np.random.default_rng(0),
        execution=Execution(action_noise_scale=0.0),
        streams=live,
    )
    (episode, _) = episodes
    first, second = episode.stamps[:2].tolist()
    loop.start(first, episode.observation[0, :7])
    outcome = loop.advance(first)
    assert (
        isinstance(outcome, Hold)
        and 'no recent message of grip, force, object' in outcome.reason
        and not policy.windows
    )
    for topic, received, _, data in ROWS:
        if topic in live.topics and received <= second:
            live.take(topic, received, data)
    loop.observe(second, episode.observation[1, :7])
    assert isinstance(loop.advance(second), Command)
    assert policy.windows[0][-1, 14:].tobytes() == episode.observation[1, 14:].tobytes()
