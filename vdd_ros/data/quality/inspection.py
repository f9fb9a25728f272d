"""Inspect a recording in one pass, and measure its quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.contract.naming import action_changes, observation_names
from vdd_ros.data.bag.recovery import settle
from vdd_ros.data.dataset import cut
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint
from vdd_ros.data.episode import Episode
from vdd_ros.data.quality.camera_views import contact_sheets
from vdd_ros.data.quality.completeness import Lapse, lapses_of
from vdd_ros.data.quality.episode_quality import Coverage, EpisodeQuality, measure_episodes
from vdd_ros.data.quality.findings import Finding, findings_of, gaps_within
from vdd_ros.data.quality.quality import Gap, JointQuality, StreamQuality, measure_joint
from vdd_ros.data.quality.survey import survey
from vdd_ros.data.quality.tally import Tally, tally
from vdd_ros.data.recording import Recording
from vdd_ros.data.spans import Span, spans_of

_BINS = 600
_DENSITY_BINS = 60
_TRACE_POINTS = 200
_SHOWN = 6.0
"""Range of the interval histogram, in median intervals."""


class Limits(Protocol):
    """Joint limits of the arm; implemented by `vdd_ros.robot.kinematics.Kinematics`."""

    lower: np.ndarray
    upper: np.ndarray
    velocity_limits: np.ndarray

    def units_of(self, joints: Sequence[str]) -> tuple[str, ...]:
        """Return the unit of the position of each joint, by name."""
        ...


@dataclass(frozen=True)
class Trace:
    """One demonstration as a curve to be drawn."""

    index: int
    success: bool | None
    seconds: float
    values: np.ndarray
    """Shape (point, number), subsampled."""


@dataclass(frozen=True)
class DrawnSpan:
    """One demonstration on the time line."""

    start: int
    """[ns]"""
    end: int
    """[ns]"""
    success: bool | None
    dropped: str
    """Reason why it is excluded from training; empty otherwise."""


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting a recording: quality of streams, joints and demonstrations, and all findings."""

    path: Path
    contract: Contract | None
    size: int
    """Size of the files [byte]."""
    span: tuple[int, int]
    """First and last stamp [ns]."""
    streams: tuple[StreamQuality, ...]
    joints: tuple[JointQuality, ...]
    episodes: tuple[EpisodeQuality, ...]
    coverage: Coverage | None
    findings: tuple[Finding, ...]
    report: ConversionReport
    tally: Tally
    """Number of demonstrations of each kind."""
    spans: tuple[DrawnSpan, ...]
    activity: Mapping[str, np.ndarray]
    """Number of messages in equal parts of the recording, by topic."""
    intervals: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Histogram of the intervals by topic: counts and edges [s]."""
    densities: Mapping[str, np.ndarray]
    """Histogram of the positions by joint, from minimum to maximum."""
    traces: tuple[Trace, ...]
    trace_names: tuple[str, ...]
    """Names of the values of a trace."""
    sheets: Mapping[str, np.ndarray]
    """Images of several demonstrations over time by camera, shape (row, column, 3), uint8."""
    is_path: bool
    """Whether a trace is a path in a plane instead of values over time."""

    @property
    def seconds(self) -> float:
        """Duration [s]."""
        return (self.span[1] - self.span[0]) / 1e9

    @property
    def shown_gaps(self) -> dict[str, tuple[Gap, ...]]:
        """The gaps by topic; if there are demonstrations, only those within them."""
        spans = {index: (item.start, item.end) for index, item in enumerate(self.spans) if not item.dropped}
        return {stream.topic: gaps_within(stream, spans) for stream in self.streams}

    @property
    def gaps(self) -> dict[str, int]:
        """Number of these gaps by topic."""
        return {topic: len(gaps) for topic, gaps in self.shown_gaps.items()}

    def count(self, level: str) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)


def inspect(
    path: str | Path,
    contract: Contract | None = None,
    kinematics: ToolPoint | None = None,
    limits: Limits | None = None,
    progress: Callable[[float], None] | None = None,
) -> Inspection:
    """Read a bag once, and measure it.

    Parameters
    ----------
    path
        The bag.
    contract, kinematics
        The contract, and the kinematics for features in tool space. Without a contract only the streams are measured.
    limits
        Limits of the joints in the order of the contract; None without a model.
    progress
        Called after each block of messages with the share of messages read, in [0, 1].

    Raises
    ------
    BagError
        There is no bag, it cannot be read, or a topic of the contract is missing.

    """
    settle(Path(path))
    found = survey(path, contract, progress)
    report, recording, times = found.report, found.recording, found.times
    joints: tuple[JointQuality, ...] = ()
    episodes: list[Episode] = []
    spans: list[Span] = []
    lapses: tuple[Lapse, ...] = ()
    if recording is not None:
        spans = spans_of(recording, contract, report)
        joints = _joints(recording, contract, limits, spans)
        lapses = lapses_of(recording, contract, spans)
        for index, span in enumerate(spans):
            episodes += cut(recording, contract, span, index, kinematics, report)
    names = observation_names(contract) if contract is not None else []
    changes = action_changes(contract) if contract is not None else np.zeros(0, dtype=bool)
    period = contract.period if contract is not None else None
    qualities, coverage = measure_episodes(episodes, names, changes, period or 1)
    bounds = {index: (item.start, item.end) for index, item in enumerate(spans) if not item.dropped}
    streams = tuple(seen.quality for seen in found.topics.values())
    ends = [(int(item[0]), int(item[-1])) for item in times.values()]
    whole = (min(first for first, _ in ends), max(last for _, last in ends)) if ends else (0, 0)
    is_path = contract is not None and (contract.action.space == 'tool' or contract.action_size == 2)
    width = 2 if is_path else len(contract.robot.joints) if contract is not None else 0
    return Inspection(
        path=found.path,
        contract=contract,
        size=found.size,
        span=whole,
        streams=streams,
        joints=joints,
        episodes=qualities,
        coverage=coverage,
        findings=findings_of(streams, joints, qualities, report, bounds, lapses=lapses, period=period),
        report=report,
        tally=tally(spans, episodes),
        spans=tuple(DrawnSpan(item.start, item.end, _success(item), item.dropped) for item in spans),
        activity={name: np.histogram(item, _BINS, (whole[0], whole[1] + 1))[0] for name, item in times.items()},
        intervals={name: _intervals(item) for name, item in times.items() if len(item) > 1},
        densities=_densities(recording, joints),
        traces=tuple(_trace(item, width, contract.period) for item in episodes),
        trace_names=tuple(names[:width]),
        sheets=contact_sheets(episodes, contract) if contract is not None else {},
        is_path=is_path,
    )


def _success(span: Span) -> bool | None:
    return span.labels['outcome'] == 'success' if 'outcome' in span.labels else None


def _joints(
    recording: Recording, contract: Contract, limits: Limits | None, spans: Sequence[Span]
) -> tuple[JointQuality, ...]:
    measured, commanded = recording.measured, recording.commanded
    part = np.full(len(measured.stamps), -1)
    for index, span in enumerate(spans):
        part[np.searchsorted(measured.stamps, span.start) : np.searchsorted(measured.stamps, span.end)] = index
    found = []
    known = limits is not None
    units = limits.units_of(contract.robot.joints) if known else ['rad or m'] * len(contract.robot.joints)
    for place, name in enumerate(contract.robot.joints):
        found.append(
            replace(
                measure_joint(
                    name,
                    measured.stamps,
                    measured.values[:, place],
                    commanded.stamps,
                    commanded.values[:, place] if len(commanded.stamps) else np.zeros(0),
                    part=part if spans else None,
                    limits=(float(limits.lower[place]), float(limits.upper[place])) if known else None,
                    speed_limit=_finite(limits.velocity_limits[place]) if known else None,
                ),
                unit=units[place],
            )
        )
    return tuple(found)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _densities(recording: Recording | None, joints: tuple[JointQuality, ...]) -> dict[str, np.ndarray]:
    return {
        joint.name: np.histogram(recording.measured.values[:, place], _DENSITY_BINS, (joint.low, joint.high))[0]
        for place, joint in enumerate(joints)
    }


def _intervals(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    intervals = np.diff(times) / 1e9
    # Longer intervals are clipped: pauses between demonstrations would dominate the histogram.
    most = min(1.2 * float(np.quantile(intervals, 0.999)), _SHOWN * float(np.median(intervals))) + 1e-9
    return np.histogram(np.minimum(intervals, most), _DENSITY_BINS, (0.0, most))


def _trace(episode: Episode, width: int, period: int) -> Trace:
    stride = max(1, len(episode) // _TRACE_POINTS)
    values = episode.observation[::stride, :width]
    return Trace(episode.index, episode.success, len(episode) * period / 1e9, values)
