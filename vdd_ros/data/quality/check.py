"""Check whether a policy can be trained on a bag with a contract: each stream, and the demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import BagError, ModelError
from vdd_ros.contract.contract import NANOSECONDS, Contract, TopicFeature
from vdd_ros.contract.naming import action_names, observation_names
from vdd_ros.data.bag.bag_recording import find_topic
from vdd_ros.data.dataset import cut, require_episodes
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint
from vdd_ros.data.decode.frames import Rows
from vdd_ros.data.decode.sources import COMMANDED, MEASURED, Source, alignment, sources, topic_features
from vdd_ros.data.demonstrations import LEAST_EPISODES, MakeKinematics
from vdd_ros.data.episode import Episode
from vdd_ros.data.quality.completeness import REMEDY, lapses_of, summary
from vdd_ros.data.quality.quality import measure_stream
from vdd_ros.data.quality.survey import Survey, survey
from vdd_ros.data.quality.tally import Tally, tally
from vdd_ros.data.recording import Recording, Stream
from vdd_ros.data.spans import Span, spans_of

_TOLERANCE = 0.2
"""Relative deviation of a stream's rate from the expected rate above which the rate is reported."""
_OTHER_CLOCK = 1.0
"""Clock offset above which the messages of two streams never coincide [s]."""
_USABLE = 0.5
"""Minimum share of usable ticks over all demonstrations."""
_COUNTED = ('messages', 'stamps', 'repeated stamps')
"""Beginnings of notes that are about a number of messages."""
_FEW = 0.01
"""Share of a stream's messages that may be dropped without a complaint."""
_CONSTANT = 1e-9
_NUMBERS = 1 << 20
"""Number of values processed at a time."""
_OUTSIDE = 0.5
"""Share of measurements outside a limit above which unit, sign or offset of a joint is assumed to be wrong."""


@dataclass(frozen=True)
class Fit:
    """The result of checking one stream of a contract in a bag: rate, pauses, delay and problems."""

    stream: str
    topic: str
    """Name in the bag, or in the contract if the bag lacks it."""
    type: str
    read: int
    """Number of decoded messages."""
    dropped: int
    rate: float | None
    """Message rate [Hz]; None if unknown."""
    longest: float
    """Longest pause [s]."""
    late: float | None
    """99th percentile of the transport delay [s]; None if the clocks do not allow the comparison."""
    complaints: tuple[str, ...]
    """Problems that prevent training."""
    remarks: tuple[str, ...]
    """Observations that do not prevent training."""


@dataclass(frozen=True)
class Verdict:
    """The result of checking a bag with a contract: whether a policy can be trained on it, and why not."""

    fits: tuple[Fit, ...]
    unused: tuple[str, ...]
    """Topics of the bag that the contract does not use."""
    tally: Tally
    """The demonstrations."""
    report: ConversionReport
    """Data dropped during the conversion to episodes."""
    general: tuple[str, ...]
    """Problems beyond single streams: model, clocks, too few ticks, constant actions."""
    remarks: tuple[str, ...]
    """Observations that do not prevent training."""

    @property
    def complaints(self) -> tuple[str, ...]:
        """All problems that prevent training."""
        found = [f'{fit.stream}: {complaint}' for fit in self.fits for complaint in fit.complaints]
        return (*found, *self.general)


class _Nowhere:
    """Replaces the kinematics if there is no model; all tool poses are then constant and not judged."""

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        return np.zeros((*joints.shape[:-1], 3))

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        return np.broadcast_to([1.0, 0.0, 0.0, 0.0], (*joints.shape[:-1], 4))


def check(
    path: str | Path,
    contract: Contract,
    kinematics: MakeKinematics | None = None,
    progress: Callable[[float], None] | None = None,
) -> Verdict:
    """Read a bag with a contract, and check whether a policy can be trained on it.

    Parameters
    ----------
    path, contract
        The bag and the contract.
    kinematics
        Loads the model of the contract. A model that cannot be loaded is a complaint. By default the model is ignored.
    progress
        Called repeatedly with the completed share, in [0, 1].

    Raises
    ------
    BagError
        There is no bag, or nothing in it can be read.

    """
    found = survey(path, contract, progress, tolerant=True)
    tool, general = _model(kinematics if contract.robot.model or contract.needs_model else None)
    recording, spans, episodes = found.recording, [], []
    if recording is not None:
        # First, because images are decoded when ticks need them, which may reveal further problems.
        spans = spans_of(recording, contract, found.report)
        for index, span in enumerate(spans):
            episodes += cut(recording, contract, span, index, tool or _Nowhere(), found.report)
    fits = tuple(_fit(found, contract, source) for source in sources(contract))
    broken = any(fit.complaints for fit in fits)
    streams = {source.stream for source in sources(contract)}
    general += [f'{name}: {why}' for name, why in found.complaints.items() if name not in streams and not broken]
    remarks: list[str] = []
    counts = Tally()
    if recording is not None:
        clocks = [*_clocks(recording, contract)]
        general += clocks
        counts = tally(spans, episodes)
        if lapses := lapses_of(recording, contract, spans):
            general.append(f'{summary(lapses)}: {REMEDY}')
        if not (clocks or broken):
            general += _unlearnable(recording, contract, spans, counts, found.report, path)
        if counts.training:
            constant, remarks = _constant(episodes, contract, judged=tool is not None)
            general += constant
        if counts.training < LEAST_EPISODES and not general:
            remarks.append(
                f'training needs at least {LEAST_EPISODES} demonstrations over all bags; '
                f'this bag has {counts.training} usable ones'
            )
        if tool is not None:
            outside, more = _limits(recording, contract, tool)
            general, remarks = general + outside, remarks + more
    named = {fit.topic for fit in fits} | {find_topic(found.topics, name) for name in _named(contract)}
    unused = tuple(sorted(set(found.topics) - named))
    return Verdict(fits, unused, counts, found.report, tuple(general), tuple(remarks))


def _model(kinematics: MakeKinematics | None) -> tuple[ToolPoint | None, list[str]]:
    if kinematics is None:
        return None, []
    try:
        return kinematics(), []
    except ModelError as error:
        return None, [f'robot: expected {error.expected}; found {error.found}; {error.remedy}']


def _named(contract: Contract) -> list[str]:
    rules = contract.episodes
    signals = (rules.signal, rules.discard, rules.outcome, rules.language)
    return [contract.topics.episode, *(item.topic for item in signals if item is not None)]


def _fit(found: Survey, contract: Contract, source: Source) -> Fit:
    """Check one stream."""
    reader, names = found.reader, found.reader.name_of(source.stream)
    stream = reader.tracks[source.stream].stream()
    entries = [entry for entry in found.report.entries if entry.where in (*names, source.stream)]
    notes = [entry for entry in entries if entry.kind == 'note' and 'latency' not in entry.why]  # of latency: see below
    remarks = [f'{entry.count} {entry.why}' if entry.why.startswith(_COUNTED) else entry.why for entry in notes]
    complaints = [found.complaints[source.stream]] if source.stream in found.complaints else []
    for entry in entries:
        if entry.kind == 'message':
            few = entry.count <= _FEW * len(stream.stamps)
            (remarks if few else complaints).append(str(entry).partition(': ')[2])
    if names and not len(stream.stamps) and not source.optional and not complaints:
        complaints.append('no message')
    align, rate = alignment(contract, source.stream), _expected_rate(contract, source.stream)
    quality = measure_stream(source.topic, source.type, stream.received, stream.stamps, expected_rate=rate)
    same = len(stream.stamps) > 1 and np.ptp(stream.stamps) == 0 and np.ptp(stream.received) > 0
    zero = int(((stream.stamps == 0) & (stream.received != 0)).sum())
    if (same or zero) and not source.stream.endswith('/static'):
        what = f'all {len(stream.stamps)} headers have the stamp' if same else f'{zero} headers have the stamp'
        complaints.append(
            f'{what} {stream.stamps[0] / NANOSECONDS:g} s, which is not a valid time: set `stamp: receive`'
        )
    elif rate and quality.rate and abs(quality.rate / rate - 1) > _TOLERANCE:
        complaints.append(f'{quality.rate:.3g} messages per second, not {rate:.3g}')
    if align.max_age is not None and quality.longest_interval > align.max_age:
        remarks.append(f'pauses of up to {quality.longest_interval:.3g} s; they cost ticks over {align.max_age:g} s')
    by_header = len(stream.stamps) and not same and not np.array_equal(stream.stamps, stream.received)
    late = float(np.quantile(stream.received - stream.stamps, 0.99)) / NANOSECONDS if by_header else None
    if late is not None and not -0.1 < late < 60:
        remarks.append(f'the clock of its headers is {late:.3g} s behind that of the bag')
        late = None
    elif late is not None and late > align.latency + contract.period / NANOSECONDS:
        remarks.append(f'its messages arrive later than assumed: set `latency: {late:.2g}`')
    dropped = sum(entry.count for entry in entries if entry.kind == 'message')
    topic = names[1] if names else find_topic(found.topics, source.topic) or source.topic
    return Fit(
        *(source.stream, topic, source.type, len(stream.stamps), dropped, quality.rate, quality.longest_interval, late),
        tuple(complaints),
        tuple(remarks),
    )


def _expected_rate(contract: Contract, stream: str) -> float | None:
    name = stream.partition('/')[0]
    if name in (MEASURED, COMMANDED):
        return getattr(contract, name).rate
    feature: TopicFeature = next(item for item in topic_features(contract) if item.name == name)
    return feature.rate


def _clocks(recording: Recording, contract: Contract) -> Iterator[str]:
    """Yield the streams whose clock differs from that of the joint states, so that their messages never coincide."""
    reference = _offset(recording.measured)
    if reference is None:
        return
    streams = {COMMANDED: recording.commanded, **recording.streams}
    marks = np.array([(mark.stamp, mark.received) for mark in recording.marks], dtype=np.int64).reshape(-1, 2)
    if contract.episodes.by == 'marks':
        streams['the episode marks'] = Stream(marks[:, 0], np.zeros((len(marks), 0)), marks[:, 1])
    for role, values in recording.signals.items():
        times = np.array([item[:2] for item in values], dtype=np.int64).reshape(-1, 2)
        streams[f'episodes/{role}'] = Stream(times[:, 0], np.zeros((len(times), 0)), times[:, 1])
    for name, stream in streams.items():
        offset = None if name.endswith('/static') else _offset(stream)
        if offset is not None and abs(offset - reference) > _OTHER_CLOCK:
            marked = 'record with the clock of the robot (`--sim-time`), or set' if 'marks' in name else 'set'
            yield (
                f'{name}: its stamps are {offset - reference:.6g} s behind those of the joint states and never '
                f'coincide: {marked} `stamp: receive` for both, or synchronise the clocks'
            )


def _offset(stream: Stream) -> float | None:
    """Return by how much the stamps of a stream are behind its reception [s]; None if unknown."""
    if not len(stream.received) or (len(stream.stamps) > 1 and np.ptp(stream.stamps) == 0):
        return None
    return float(np.median(stream.received - stream.stamps)) / NANOSECONDS


def _unlearnable(
    recording: Recording,
    contract: Contract,
    spans: Sequence[Span],
    counts: Tally,
    report: ConversionReport,
    path: str | Path,
) -> list[str]:
    """Return why the demonstrations are not sufficient, if so."""
    try:
        require_episodes(spans, recording, contract, str(path))
    except BagError as error:
        return [f'expected {error.expected}; found {error.found}; {error.remedy}']
    reasons = '; '.join(line for line in report.lines() if 'tick' in line or 'episode' in line)
    if not counts.training:
        return [f'no usable demonstration: {counts}' + f' ({reasons})' * bool(reasons)]
    whole = sum(-(-(span.end - span.start) // contract.period) for span in spans if not span.dropped)
    if counts.ticks < _USABLE * whole:
        return [f'{counts.ticks} of {whole} ticks are usable ({reasons})']
    usable = counts.training + counts.failure
    if counts.ticks <= usable * contract.prediction_horizon:
        ahead = contract.prediction_horizon
        return [f'{counts.ticks} ticks in {usable} demonstrations; the policy predicts {ahead} actions at once']
    return []


def _constant(episodes: Sequence[Episode], contract: Contract, *, judged: bool) -> tuple[list[str], list[str]]:
    """Return constant actions (complaints) and constant observations (remarks).

    ``judged`` is whether the tool pose is known.
    """
    chosen = [episode for episode in episodes if episode.success is not False]
    complaints, remarks = [], []
    for kind, features, names in (
        ('action', contract.actions, action_names(contract)),
        ('observation', contract.observation, observation_names(contract)),
    ):
        low, high = _extremes([getattr(episode, kind) for episode in chosen])
        still = high - low <= _CONSTANT * np.maximum(np.maximum(-low, high), 1.0)
        tool = np.repeat([feature.space == 'tool' for feature in features], [contract.width(item) for item in features])
        still &= judged | ~tool
        if still.all():
            hint = ': no commands within the demonstrations, or all equal; check `commands`, units and clocks'
            complaints.append(f'every {kind} is constant' + hint * (kind == 'action'))
        elif still.any():
            listed = [name for name, constant in zip(names, still) if constant]
            shown = ', '.join(listed[:8]) + f' and {len(listed) - 8} more' * (len(listed) > 8)
            remarks.append(f'constant values of the {kind}: {shown}')
    return complaints, remarks


def _extremes(parts: Sequence[np.ndarray | Rows]) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum and maximum of each column; images are processed in blocks of rows."""
    lows, highs = [], []
    for part in parts:
        count = max(1, _NUMBERS // max(part.shape[1], 1))
        for begin in range(0, len(part), count):
            rows = np.asarray(part[begin : begin + count])
            lows.append(rows.min(axis=0))
            highs.append(rows.max(axis=0))
    return np.min(lows, axis=0), np.max(highs, axis=0)


def _limits(recording: Recording, contract: Contract, tool: ToolPoint) -> tuple[list[str], list[str]]:
    """Return joints measured beyond the limits of the model: a wrong unit (complaint), or a few values (remark)."""
    lower, upper = getattr(tool, 'lower', None), getattr(tool, 'upper', None)
    if lower is None or upper is None or not len(recording.measured.values):
        return [], []
    values = recording.measured.values
    room = np.where(np.isfinite(upper - lower), 1e-3 * (upper - lower), 0.0)
    beyond = ((values < lower - room) | (values > upper + room)).mean(axis=0)
    complaints, remarks = [], []
    for name, share, low, high in zip(contract.robot.joints, beyond, lower, upper):
        text = f'{name}: {share:.0%} of the measurements exceed the model limits {low:.3g} to {high:.3g}'
        if share > _OUTSIDE:
            complaints.append(f'{text}; check unit, sign and offset')
        elif share > 0:
            remarks.append(text)
    return complaints, remarks
