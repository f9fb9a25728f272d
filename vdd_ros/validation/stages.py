"""Stages of a deployment: shadow, supervised, limited, full. `docs/stages.md` is the guide.

A student is introduced on an arm in stages. Each stage permits more than the previous one, and is granted on evidence
from the previous one. The log of an arm (`vdd_ros.validation.stage_log`) contains every granted stage with person,
time, reason, student and deployment parameters, and the operation recorded by the policy node. The node reads its stage
from the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from vdd_ros.common.errors import ConfigurationError, GateError
from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.control.rules import Zone
from vdd_ros.policy.labels import Labels
from vdd_ros.validation.gate import require
from vdd_ros.validation.stage_log import Entry, append, read_log
from vdd_ros.validation.thresholds import Gate

if TYPE_CHECKING:
    from vdd_ros.control.deployment import Deployment
    from vdd_ros.policy.artifact import Artifact

Stage = Literal['shadow', 'supervised', 'limited', 'full']
STAGES: tuple[Stage, ...] = ('shadow', 'supervised', 'limited', 'full')
"""The stages, in the order in which they permit more."""
_STAGE, _SESSION = 'stage', 'session'
"""Kinds of entries: a change of the stage, and a record of operation."""


class SupervisedSettings(Settings):
    """Limits of the stage supervised, in which a person holds the enabling device."""

    speed: float = Field(0.1, gt=0, le=1)
    """Speed, as a share of full speed."""
    workspace: Zone | None = None
    """Box in which plans must keep the tool, in the frame of the robot model [m]. Default: none."""


class LimitedSettings(Settings):
    """Limits of the stage limited: speed and experts."""

    speed: float = Field(0.5, gt=0, le=1)
    """Speed, as a share of full speed."""
    experts: tuple[str | int, ...] = ()
    """Names or numbers of the experts that may act. Default: all."""


class Requirement(Settings):
    """Evidence required from the previous stage. A bound of null requires nothing."""

    hours: float = Field(1.0, ge=0)
    """Minimum time in which the arm was commanded (in shadow: compared) [h]."""
    episodes: int = Field(20, ge=0)
    """Minimum number of episodes on the episode topic; without episode events, each activation counts as an episode."""
    success: float | None = Field(None, ge=0, le=1)
    """Minimum share of the episodes that the episode topic reports as a success."""
    safety_stops: int = Field(0, ge=0)
    """Maximum number of safety stops: emergency stops, and stops that no person requested."""
    ood_share: float | None = Field(0.05, ge=0, le=1)
    """Maximum share of the time at an out-of-distribution level of warn or worse."""
    disagreement: float | None = Field(0.1, gt=0)
    """After shadow: maximum 99th percentile of the difference from the commands of the other node, for any joint
    [rad]."""


class DemotionSettings(Settings):
    """Conditions under which the stage is lowered by one automatically."""

    safety_stops: int = Field(1, ge=1)
    """Number of safety stops since the stage was entered that lowers the stage."""
    ood_share: float | None = Field(0.5, gt=0, le=1)
    """Share of a time window at an out-of-distribution level of warn or worse above which the stage is lowered; null:
    never."""
    ood_window: float = Field(60.0, gt=0)
    """Length of the time window for `ood_share` [s]."""


class StageSettings(Settings):
    """Limits of the stages, and conditions for promotion and demotion (``config/stages.yaml``)."""

    supervised: SupervisedSettings = SupervisedSettings()
    """Limits of the stage supervised."""
    limited: LimitedSettings = LimitedSettings()
    """Limits of the stage limited."""
    to_supervised: Requirement = Requirement(hours=1.0, episodes=20)
    """Evidence required from the stage shadow."""
    to_limited: Requirement = Requirement(hours=2.0, episodes=50)
    """Evidence required from the stage supervised."""
    to_full: Requirement = Requirement(hours=20.0, episodes=500)
    """Evidence required from the stage limited."""
    demotion: DemotionSettings = DemotionSettings()
    """Conditions under which the stage is lowered automatically."""
    count_simulation: bool = False
    """Whether operation in simulated time counts as evidence. Only for practice."""

    def requirement(self, stage: Stage) -> Requirement:
        """Return the requirement for a stage above shadow."""
        return {'supervised': self.to_supervised, 'limited': self.to_limited, 'full': self.to_full}[stage]


def load_stage_settings(path: str | Path | None = None) -> StageSettings:
    """Read stage settings from YAML; by default the shipped ones (``config/stages.yaml``).

    Raises
    ------
    ConfigurationError
        The file is absent or malformed, a key is unknown, or a value is out of range.

    """
    return StageSettings.read(share_path('config', 'stages.yaml') if path is None else Path(path))


@dataclass(frozen=True)
class Subject:
    """A student under deployment parameters, to which a stage is granted."""

    artifact: str
    """Hash of the student."""
    contract: str
    """Hash of the student's contract."""
    deployment: str
    """Fingerprint of the deployment parameters."""

    @classmethod
    def of(cls, artifact: Artifact, deployment: Deployment) -> Subject:
        """Return a student under deployment parameters."""
        return cls(artifact.hash, artifact.manifest.contract_hash, deployment.fingerprint)

    def check(self, other: Subject, log: str | Path) -> None:
        """Raise a `GateError` if another subject differs from this one, the subject of the last entry of a log."""
        for what, expected in vars(self).items():
            found = getattr(other, what)
            if found != expected:
                raise GateError(
                    expected=f'the {what} {expected[:12]}, to which {log} grants a stage',
                    found=f'{what} {found[:12]}',
                    remedy='begin again: vdd promote LOG shadow, with this student and these parameters',
                )


@dataclass(frozen=True)
class Session:
    """Operation recorded by a policy node, from an activation to its end or to a demotion."""

    stage: Stage
    granted: int
    """Number of the log entry that granted the stage."""
    seconds: float = 0.0
    """Time with commands (in shadow: with computed commands) [s]."""
    episodes: int = 0
    successes: int | None = None
    """Successful episodes; None without reported outcomes."""
    safety_stops: tuple[str, ...] = ()
    """Reasons of the safety stops."""
    requested_stops: int = 0
    """Number of stops by ``~/stop``."""
    ood_seconds: float | None = None
    """Time at an out-of-distribution level of warn or worse [s]; None if the level was not measured."""
    disagreement: float | None = None
    """99th percentile of the difference from the commands of the other node, the highest of all joints [rad]."""
    simulated: bool = False
    """Whether the time was simulated."""

    def values(self) -> dict[str, Any]:
        """Return the values for a log entry."""
        return {**vars(self), 'safety_stops': list(self.safety_stops)}

    @classmethod
    def of(cls, entry: Entry) -> Session:
        """Return the session of a log entry."""
        return cls(**{**entry.values, 'safety_stops': tuple(entry.values['safety_stops'])})


@dataclass(frozen=True)
class Evidence:
    """Operation recorded since the present stage was entered."""

    seconds: float = 0.0
    episodes: int = 0
    successes: int | None = None
    safety_stops: tuple[str, ...] = ()
    ood_share: float | None = None
    """Share of the time at an out-of-distribution level of warn or worse; None if a part was not measured."""
    disagreement: float | None = None
    """The highest disagreement of the sessions [rad]; None if a session has none."""

    @classmethod
    def of(cls, sessions: Iterable[Session]) -> Evidence:
        """Combine the sessions since the present stage was entered."""
        found = [session for session in sessions if session.seconds or session.safety_stops]
        if not found:
            return cls()
        seconds = sum(session.seconds for session in found)
        ood, apart = [each.ood_seconds for each in found], [each.disagreement for each in found]
        successes = [session.successes for session in found]
        return cls(
            seconds,
            sum(session.episodes for session in found),
            None if None in successes else sum(successes),
            tuple(reason for session in found for reason in session.safety_stops),
            None if None in ood or not seconds else sum(ood) / seconds,
            None if None in apart else max(apart),
        )

    def shortcomings(self, requirement: Requirement, stage: Stage) -> list[str]:
        """Return one text for each part of a requirement that the evidence does not meet in a stage."""
        found = []
        if self.seconds / 3600 < requirement.hours:
            found.append(f'{self.seconds / 3600:.2f} of {requirement.hours:g} hours in {stage}')
        if self.episodes < requirement.episodes:
            found.append(f'{self.episodes} of {requirement.episodes} episodes')
        if requirement.success is not None:
            share = None if self.successes is None or not self.episodes else self.successes / self.episodes
            found += _beyond('success', share, requirement.success, least=True)
        if len(self.safety_stops) > requirement.safety_stops:
            found.append(f'{len(self.safety_stops)} safety stops ({self.safety_stops[-1]})')
        if requirement.ood_share is not None:
            found += _beyond('share of the time out of distribution', self.ood_share, requirement.ood_share)
        if stage == 'shadow' and requirement.disagreement is not None:
            found += _beyond('disagreement [rad]', self.disagreement, requirement.disagreement)
        return found


@dataclass(frozen=True)
class Standing:
    """The present stage of an arm, who granted it, and the evidence since then."""

    stage: Stage
    since: str
    """Time at which the stage was entered, in UTC."""
    who: str
    why: str
    subject: Subject
    settings: StageSettings
    """Stage settings of the last promotion."""
    evidence: Evidence
    """Evidence recorded since the stage was entered."""
    head: str
    """Hash of the last log entry."""
    number: int
    """Number of the log entry by which the stage was entered."""

    @property
    def next(self) -> Stage | None:
        """The next higher stage; None for full."""
        return STAGES[STAGES.index(self.stage) + 1] if self.stage != 'full' else None

    @property
    def below(self) -> Stage:
        """The next lower stage; for shadow it is shadow, with new evidence."""
        return STAGES[max(STAGES.index(self.stage) - 1, 0)]

    def shortcomings(self, settings: StageSettings | None = None) -> list[str]:
        """Return one text for each unmet requirement for promotion; default: the settings of the last promotion."""
        above = self.next
        if above is None:
            return []
        return self.evidence.shortcomings((settings or self.settings).requirement(above), self.stage)

    def restricted(self, deployment: Deployment, experts: int, labels: Labels) -> Deployment:
        """Return deployment parameters under the restrictions of the stage.

        Parameters
        ----------
        deployment
            Deployment parameters as validated. Where they are stricter than the stage, they stay unchanged.
        experts, labels
            Number and names of the student's experts.

        Raises
        ------
        ConfigurationError
            The stage names an expert that does not exist.

        """
        mode = deployment.operating_mode
        if self.stage == 'full' or mode == 'shadow':
            return deployment
        if self.stage == 'shadow':
            return deployment.model_copy(update={'operating_mode': 'shadow'})
        permitted: Sequence[str | int] = self.settings.limited.experts if self.stage == 'limited' else ()
        speed = self.settings.supervised.speed if self.stage == 'supervised' else self.settings.limited.speed
        forbidden = set(deployment.forbidden_experts)
        if permitted:
            forbidden |= set(range(experts)) - {_expert(each, experts, labels) for each in permitted}
        return deployment.model_copy(
            update={
                'operating_mode': 'slow',
                'slow_speed': min(speed, deployment.slow_speed) if mode == 'slow' else speed,
                'forbidden_experts': tuple(sorted(forbidden)),
            }
        )

    @property
    def workspace(self) -> np.ndarray | None:
        """Lower and upper corner of the box that the tool must not leave, shape (2, 3) [m]; None for no box."""
        zone = self.settings.supervised.workspace if self.stage == 'supervised' else None
        return None if zone is None else zone.box


def standing_of(log: str | Path, anchor: str = '') -> Standing:
    """Return the present stage according to a log.

    Raises
    ------
    GateError
        The log does not exist, or was edited.

    """
    entries = read_log(log, anchor)
    granted = next((entry for entry in reversed(entries) if entry.kind == _STAGE), None)
    if granted is None:
        raise GateError(
            expected=f'a log of stages at {log}',
            found='none',
            remedy='begin one: vdd promote LOG shadow --student STUDENT --who NAME --why REASON',
        )
    values = granted.values
    settings = StageSettings.parse(values['settings'])
    sessions = [Session.of(entry) for entry in entries[granted.number :] if entry.kind == _SESSION]
    sessions = [session for session in sessions if session.granted == granted.number]
    counted = [session for session in sessions if settings.count_simulation or not session.simulated]
    return Standing(
        values['stage'],
        granted.time,
        granted.who,
        granted.why,
        Subject(**values['subject']),
        settings,
        Evidence.of(counted),
        entries[-1].hash,
        granted.number,
    )


def promote(
    log: str | Path,
    stage: Stage,
    who: str,
    why: str,
    *,
    artifact: Artifact,
    deployment: Deployment,
    settings: StageSettings,
    report: str | Path | None = None,
    gate: Gate | None = None,
) -> Entry:
    """Grant a stage to a student under deployment parameters, on evidence, and log it.

    Shadow needs no evidence, and begins the log. Every other stage must follow the previous stage.

    Parameters
    ----------
    log, stage, who, why
        The log, the stage to grant, the person who grants it, and the reason.
    artifact, deployment
        The student, and the deployment parameters.
    settings
        Limits and requirements of the stages.
    report, gate
        As for `vdd_ros.validation.gate.require`. Overrides are not accepted.

    Raises
    ------
    GateError
        The student has not passed its validation, evidence is missing, or the log belongs to another student or other
        deployment parameters, or was edited.

    """
    subject = Subject.of(artifact, deployment)
    values: dict[str, Any] = {'stage': stage, 'subject': vars(subject), 'settings': settings.model_dump(mode='json')}
    if stage == 'shadow':
        return append(log, _STAGE, who, why, values)
    before = standing_of(log)
    before.subject.check(subject, log)
    if before.next != stage:
        raise GateError(
            expected=f'a promotion from {before.stage} to {before.next or "nothing above it"}',
            found=f'one to {stage}',
            remedy='take one stage after the other; `vdd demote` goes down',
        )
    passage = require(report, artifact, deployment, gate=gate)
    if missing := before.shortcomings(settings):
        raise GateError(
            expected=f'evidence for stage {stage} in {log}',
            found='; '.join(missing),
            remedy=f'stay in {before.stage}, or change the requirements of `to_{stage}` in the settings of stages',
        )
    evidence = {**vars(before.evidence), 'safety_stops': list(before.evidence.safety_stops)}
    return append(log, _STAGE, who, why, {**values, 'gate': passage.text, 'evidence': evidence})


def demote(log: str | Path, who: str, why: str, stage: Stage | None = None) -> Entry:
    """Lower the stage, by default by one, and log the change. The evidence starts from zero.

    Raises
    ------
    GateError
        The stage is not below the present one, or the log is absent or was edited.

    """
    before = standing_of(log)
    to = before.below if stage is None else stage
    if STAGES.index(to) >= STAGES.index(before.stage) and to != 'shadow':
        raise GateError(expected=f'a stage below {before.stage}', found=to, remedy='`vdd promote` goes up')
    values = {'stage': to, 'subject': vars(before.subject), 'settings': before.settings.model_dump(mode='json')}
    return append(log, _STAGE, who, why, values)


def record(log: str | Path, who: str, why: str, session: Session) -> Entry:
    """Log a record of operation; errors as for `vdd_ros.validation.stage_log.append`."""
    return append(log, _SESSION, who, why, session.values())


@dataclass
class Tally:
    """Counts of one session, from samples of the running node. Time is passed in with the samples; no clock is read."""

    standing: Standing
    simulated: bool = False
    disagreement: float | None = None
    """The highest measured disagreement [rad]."""
    _seconds: float = 0.0
    _ood_seconds: float | None = None
    _ended: int = 0
    _succeeded: int = 0
    _safety_stops: list[str] = field(default_factory=list)
    _requested_stops: int = 0
    _recorded_stops: int = 0
    """Number of safety stops of this session that were already recorded."""
    _continued: bool = False
    """Whether an earlier part of this session was already recorded."""
    _window: deque[tuple[float, bool]] = field(default_factory=deque)
    """The last samples: duration [s], and whether they were out of distribution."""

    @property
    def seconds(self) -> float:
        """Time with commands that is not recorded yet [s]."""
        return self._seconds

    def sample(self, seconds: float, level: str | None) -> None:
        """Count time with commands [s] at an out-of-distribution level; None without a score."""
        self._seconds += seconds
        if level is None:
            return
        beyond = level != 'fine'
        self._ood_seconds = (self._ood_seconds or 0.0) + seconds * beyond
        self._window.append((seconds, beyond))
        length = self.standing.settings.demotion.ood_window
        while sum(each for each, _ in self._window) - self._window[0][0] >= length:
            self._window.popleft()

    def episode(self, outcome: str) -> None:
        """Count an episode that ended with an outcome."""
        self._ended += 1
        self._succeeded += outcome == 'success'

    def stop(self, reason: str, *, requested: bool) -> None:
        """Count a stop.

        It is ``requested`` if an operator or a lifecycle transition caused it; otherwise it is a safety stop.
        """
        if requested:
            self._requested_stops += 1
        else:
            self._safety_stops.append(reason)

    def disagree(self, difference: float) -> None:
        """Process the 99th percentile of the last differences from the commands of the other node [rad]."""
        self.disagreement = max(difference, self.disagreement or 0.0)

    @property
    def demotion(self) -> str:
        """Why the stage must be lowered; empty if it need not be."""
        rules = self.standing.settings.demotion
        stops = len(self.standing.evidence.safety_stops) + self._recorded_stops + len(self._safety_stops)
        if self._safety_stops and stops >= rules.safety_stops:
            return f'{stops} safety stops, the last one: {self._safety_stops[-1]}'
        total = sum(seconds for seconds, _ in self._window)
        if rules.ood_share is None or total < rules.ood_window - 1e-6:
            return ''
        share = sum(seconds for seconds, beyond in self._window if beyond) / total
        return f'out of distribution for {share:.0%} of {total:.0f} s' if share > rules.ood_share else ''

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to record."""
        return not (self._seconds or self._ended or self._safety_stops or self._requested_stops)

    def cut(self) -> Session:
        """Return the counts since the last call, to be recorded, and reset them."""
        found = Session(
            self.standing.stage,
            self.standing.number,
            round(self._seconds, 3),
            self._ended or int(self._seconds > 0 and not self._continued),
            self._succeeded if self._ended else None,
            tuple(self._safety_stops),
            self._requested_stops,
            None if self._ood_seconds is None else round(self._ood_seconds, 3),
            self.disagreement,
            self.simulated,
        )
        self._continued |= self._seconds > 0
        self._recorded_stops += len(self._safety_stops)
        self._seconds, self._safety_stops, self._requested_stops = 0.0, [], 0
        self._ood_seconds = None if self._ood_seconds is None else 0.0
        self._ended = self._succeeded = 0
        return found


class FleetArm(Settings):
    """The stage log of one arm of a fleet, and an earlier entry, whose absence shows that the log was replaced."""

    log: str
    """Stage log of the arm; relative paths are relative to the fleet file."""
    anchor: str = ''
    """Hash of an entry that the log must contain, or its first characters. Default: none."""


class Fleet(Settings):
    """Contents of a fleet file: the stage logs of several arms, which `vdd stages` lists."""

    arms: dict[str, FleetArm]
    """Arms by name."""


def load_fleet(path: str | Path) -> dict[str, tuple[Path, str]]:
    """Return log and anchor of each arm of a fleet.

    Raises
    ------
    ConfigurationError
        The file is absent or malformed.

    """
    file = Path(path)
    return {name: (file.parent / arm.log, arm.anchor) for name, arm in Fleet.read(file).arms.items()}


def _expert(named: str | int, experts: int, labels: Labels) -> int:
    number = named if isinstance(named, int) else labels.number(named)
    if number is None or not 0 <= number < experts:
        raise ConfigurationError(
            expected=f'experts 0 to {experts - 1} of the student, or their names, in `limited.experts`',
            found=repr(named),
            remedy='see `vdd explain` for the experts of this student, and `vdd label` for their names',
        )
    return number


def _beyond(what: str, found: float | None, bound: float, *, least: bool = False) -> list[str]:
    if found is None:
        return [f'no {what} was measured']
    if found < bound if least else found > bound:
        return [f'{what} {found:.3g}, {"least" if least else "greatest"} {bound:g}']
    return []
