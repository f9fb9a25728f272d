"""Resample a recording at the ticks of the policy and cut it into episodes of observations and actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract, TopicFeature
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint, action_values, observation_values
from vdd_ros.data.decode.frames import Frames, Rows
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
    """Cut a recording into episodes, resampled at the policy rate.

    The first policy tick is the first measurement after the start of an episode. The observation at a tick uses the
    valid message of each stream, and the last command before the tick. The action leads to the last command before the
    next tick. Before the first command of an episode, the measured position is used as the command, as in the live
    policy.

    Raises
    ------
    BagError
        The recording has no episode.

    """
    report = ConversionReport() if report is None else report
    spans = spans_of(recording, contract, report)
    require_episodes(spans, recording, contract)
    episodes = []
    for index, span in enumerate(spans):
        episodes += cut(recording, contract, span, index, kinematics, report)
        if progress is not None:
            progress((index + 1) / len(spans))
    return episodes


def require_episodes(spans: Sequence[Span], recording: Recording, contract: Contract, where: str = '') -> None:
    """Check that a recording has an episode.

    Raises
    ------
    BagError
        There is no episode.

    """
    if spans:
        return
    rules = contract.episodes
    wanted = {
        'marks': f'episode marks on {contract.topics.episode}',
        'topic': f'episodes while {rules.signal.topic if rules.signal else ""} is on',
        'button': f'episodes from press to press of {rules.signal.topic if rules.signal else ""}',
    }.get(rules.by, f'episodes by {rules.by}')
    raise BagError(
        expected=wanted + f' in {where}' * bool(where),
        found=f'{len(recording.marks)} marks and no whole episode' if rules.by == 'marks' else 'none',
        remedy='record with the bridge or the recorder, which write marks, or set `episodes` in the contract',
    )


def cut(
    recording: Recording,
    contract: Contract,
    span: Span,
    index: int,
    kinematics: ToolPoint | None,
    report: ConversionReport,
) -> list[Episode]:
    """Resample one demonstration. Unusable ticks split it into several parts, or leave none."""
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
    observation, action, stale, images = _rows(recording, contract, span, ticks, kinematics)
    good = ~np.any([*stale.values()], axis=0)
    # Ticks before the first message of every stream are dropped. They do not split an episode.
    lead = int(good.argmax()) if good.any() else 0
    for name, missing in stale.items():
        for rows, why in ((slice(lead), f'no {name} yet'), (slice(lead, None), f'no recent {name}')):
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
        shown = {name: frames.pick(row) for name, frames in images.items()}
        kept = observation[row], action[row], success, labels, ticks[row]
        episodes.append(Episode(*kept, index=index, images=shown))
    return episodes


def _rows(
    recording: Recording, contract: Contract, span: Span, ticks: np.ndarray, kinematics: ToolPoint | None
) -> tuple[np.ndarray | Rows, np.ndarray, dict[str, np.ndarray], dict[str, Frames]]:
    """Return observations, actions, for each stream a mask of the ticks without a valid value, and the images."""
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
    return observation, action, stale, {feature.name: topics[feature.name] for feature in contract.arrays}
