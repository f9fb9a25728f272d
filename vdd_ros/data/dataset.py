"""From a recording to episodes: resampled to the ticks of the policy, as observations and actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract, TopicFeature
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint, action_values, observation_values
from vdd_ros.data.decode.frames import Rows
from vdd_ros.data.decode.observing import joints_at, observed_at
from vdd_ros.data.decode.sources import COMMANDED, MEASURED, measured_stream, topic_values
from vdd_ros.data.episode import Episode
from vdd_ros.data.recording import Recording
from vdd_ros.data.spans import Span, spans_of, ticks_of


def episodes_of(
    recording: Recording,
    contract: Contract,
    kinematics: ToolPoint | None,
    progress: Callable[[float], None] | None = None,
    report: ConversionReport | None = None,
) -> list[Episode]:
    """Cut a recording into its episodes, resampled at the policy rate.

    The first tick is the first measurement after an episode's start. At every tick, the observation is made of what
    stands for each stream by then, and of the newest command before the tick; the action leads to the newest command
    before the next tick. Before an episode's first command, the arm counts as commanded to be where it is: just so the
    live policy is anchored.

    Raises
    ------
    BagError
        The recording has no episode.

    """
    report = ConversionReport() if report is None else report
    spans = spans_of(recording, contract, report)
    refuse_none(spans, recording, contract)
    episodes = []
    for index, span in enumerate(spans):
        episodes += cut(recording, contract, span, index, kinematics, report)
        if progress is not None:
            progress((index + 1) / len(spans))
    return episodes


def refuse_none(spans: Sequence[Span], recording: Recording, contract: Contract, where: str = '') -> None:
    """Refuse a recording without an episode.

    Raises
    ------
    BagError
        There is none.

    """
    if spans:
        return
    rules = contract.episodes
    wanted = {
        'marks': f'marks of episodes on {contract.topics.episode}',
        'topic': f'episodes while {rules.signal.topic if rules.signal else ""} is on',
        'button': f'episodes from press to press of {rules.signal.topic if rules.signal else ""}',
    }.get(rules.by, f'episodes by {rules.by}')
    raise BagError(
        expected=wanted + f' in {where}' * bool(where),
        found=f'{len(recording.marks)} marks and no whole episode' if rules.by == 'marks' else 'none',
        remedy='record with the bridge or the recorder, which mark them, or set `episodes` in the contract',
    )


def cut(
    recording: Recording,
    contract: Contract,
    span: Span,
    index: int,
    kinematics: ToolPoint | None,
    report: ConversionReport,
) -> list[Episode]:
    """Resample one demonstration; there are several parts, or none, if some ticks cannot be learned from."""
    where = f'episode {index}'
    if span.dropped:
        report.add('episode', where, span.dropped, 1, f'{span.start / 1e9:.3f} s')
        return []
    ticks, reason = ticks_of(recording, contract, span)
    if reason:
        report.add('episode', where, reason, 1, f'{span.start / 1e9:.3f} s')
        return []
    waited = (ticks[0] - span.start) // contract.period
    report.add('tick', where, 'no joint state yet', int(waited), f'{span.start / 1e9:.3f} s')
    observation, action, stale = _rows(recording, contract, span, ticks, kinematics)
    good = ~np.any([*stale.values()], axis=0)
    # Until every stream has its first message in the episode, there is nothing to learn from; that splits nothing.
    lead = int(good.argmax()) if good.any() else 0
    for name, missing in stale.items():
        for rows, why in ((slice(lead), f'no {name} yet'), (slice(lead, None), f'no {name} that is young enough')):
            count = int(missing[rows].sum())
            report.add('tick', where, why, count, f'{ticks[rows][missing[rows]][0] / 1e9:.3f} s' if count else '')
    lacking = int((~good[lead:]).sum())
    if lacking and (contract.episodes.stale == 'drop' or not good.any()):
        report.add('episode', where, f'{lacking} of its {len(good)} ticks lack a stream', 1)
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    parts = edges.reshape(-1, 2).tolist()
    success = span.labels['outcome'] == 'success' if 'outcome' in span.labels else None
    episodes = []
    for number, (start, end) in enumerate(parts):
        labels = dict(span.labels) if len(parts) == 1 else {**span.labels, 'part': f'{number + 1} of {len(parts)}'}
        row = slice(start, end)
        episodes.append(Episode(observation[row], action[row], success, labels, ticks[row], index=index))
    return episodes


def _rows(
    recording: Recording, contract: Contract, span: Span, ticks: np.ndarray, kinematics: ToolPoint | None
) -> tuple[np.ndarray | Rows, np.ndarray, dict[str, np.ndarray]]:
    """Return observations and actions at some ticks, and by stream, at which ticks it is not known."""
    longer = np.append(ticks, ticks[-1] + contract.period)
    streams = {MEASURED: recording.measured, COMMANDED: recording.commanded, **recording.streams}
    known = joints_at(contract, streams, longer, start=span.start)
    topics, stale = observed_at(contract, streams, ticks)
    measured = [measured_stream(each) for each in contract.controllers if each.measured]
    stale |= {name: known.stale[name][:-1] for name in measured}
    missing = known.stale[COMMANDED]
    stale[COMMANDED] = missing[:-1] | missing[1:]
    before, after = {}, {}
    for feature in contract.further_actions:
        if not isinstance(feature, TopicFeature):
            continue
        controller = contract.controller_of(feature)
        if controller is None:
            values, missing = topic_values(feature, streams, longer, inclusive=False)
            before[feature.name], after[feature.name] = values[:-1], values[1:]
        else:
            missing = known.stale[f'{controller.name} (command)']
        # What an action leads from is asked for where it counts: as part of it, or as what the policy sees.
        observed = controller is not None and contract.observes(controller)
        from_there = contract.mode_of(feature) != 'absolute' or observed
        stale[f'{feature.name} (command)'] = missing[1:] | (missing[:-1] if from_there else False)
    commands = known.commanded
    observation = observation_values(contract, known.measured[:-1], commands[:-1], kinematics, topics)
    action = action_values(contract, commands[:-1], commands[1:], kinematics, before, after)
    return observation, action, stale
