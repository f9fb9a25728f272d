"""The deployment gate: no policy commands an arm that has not passed its validation, unless a person answers for it.

A verdict is never read from a report: it is computed from the episodes that the report holds, by the thresholds of
whoever asks. Neither torch nor MuJoCo is imported here: the policy node asks on the robot.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vdd_ros.common.errors import GateError
from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.policy.artifact import Artifact
from vdd_ros.validation.judgement import Verdict, judge
from vdd_ros.validation.report_file import OVER_ROS, REPORT, read_report

if TYPE_CHECKING:
    from vdd_ros.control.deployment import Deployment


class Threshold(Settings):
    """What is asked of the policy in one scenario; nothing is asked of a figure that is left out."""

    episodes: int = Field(1, ge=1)
    """Least number of episodes."""
    success: float | None = Field(None, ge=0, le=1)
    """Least share of them that succeed."""
    success_low: float | None = Field(None, ge=0, le=1)
    """Least lower end of the 95 % interval of that share: a few lucky episodes do not pass."""
    entropy: float | None = Field(None, ge=0, le=1)
    """Least variety of the ways: 0 for always the same, 1 for all equally often."""
    seconds: float | None = Field(None, gt=0)
    """Greatest mean duration of a success [s]."""
    jerk: float | None = Field(None, gt=0)
    """Greatest median of the root mean square jerk of the tool point [m/s^3]."""
    clamped: float | None = Field(None, ge=0, le=1)
    """Greatest share of the policy periods whose command a limit changes."""
    near_miss: float | None = None
    """Least distance to every obstacle that 95 % of the successes keep [m]."""
    behind_teacher: float | None = Field(None, ge=0, le=1)
    """How far the success may be under the teacher's, where the report holds that too."""


class Gate(Settings):
    """What is asked of a report."""

    scenarios: dict[str, Threshold] = Field(default_factory=dict)
    """By the name of a scenario, which must be in the report."""
    others: Threshold | None = None
    """For every other scenario that the report holds."""
    over_ros: Threshold | None = None
    """For what was tried over ROS in real time, where the report holds that."""
    latency: float | None = Field(None, gt=0)
    """Greatest 99th percentile of one answer, as a share of the policy period."""

    def threshold(self, scenario: str) -> Threshold | None:
        """Return what is asked in a scenario of a report."""
        return self.scenarios.get(scenario, self.over_ros if scenario.startswith(OVER_ROS) else self.others)


@dataclass(frozen=True)
class Override:
    """A person who lets a policy through all the same."""

    name: str
    """Who."""
    reason: str
    """Why."""


@dataclass(frozen=True)
class Passage:
    """How a policy came through the gate."""

    text: str
    """What to tell the person who launches it."""
    overridden: bool = False
    """Whether a person let it through."""


def load_gate(path: str | Path | None = None) -> Gate:
    """Read thresholds from YAML; without a path, those that ship (``config/gate.yaml``).

    Raises
    ------
    ConfigurationError
        The file is absent or malformed, a key is unknown, or a value is out of range.

    """
    file = share_path('config', 'gate.yaml') if path is None else Path(path)
    return Gate.read(file)


def find_report(artifact: Path) -> Path | None:
    """Return the report that lies beside an artifact: in ``<artifact>.report``, or in the artifact's own folder."""
    for folder in (artifact.with_name(f'{artifact.name}.report'), artifact.parent):
        if (folder / REPORT).is_file():
            return folder / REPORT
    return None


def require(
    report: str | Path | None,
    artifact: Artifact,
    deployment: Deployment,
    *,
    gate: Gate | None = None,
    override: Override | None = None,
    record: str | Path | None = None,
) -> Passage:
    """Let an artifact through if it has passed its validation, or if a person answers for it.

    Parameters
    ----------
    report
        The folder of the report or the file ``report.json``; None: the one that lies beside the artifact.
    artifact
        What shall command an arm; read and checked by `load_artifact`.
    deployment
        The rules that its commands will be under; a verdict holds for those of the validation alone.
    gate
        The thresholds; by default those that ship, or those of the workspace that overlays them.
    override
        Who lets it through all the same, and why.
    record
        The file in which overrides are kept, a line of JSON for each; by default ``<artifact>.overrides.jsonl``.

    Raises
    ------
    GateError
        There is no report, it is of another artifact, contract or deployment, was altered, or does not pass, and nobody
        answers for it; or whoever does gives no name or no reason, or it cannot be written down.
    ConfigurationError
        The thresholds that ship cannot be read.

    """
    gate = load_gate() if gate is None else gate
    try:
        verdict = _verdict(report, artifact, deployment, gate)
    except GateError as refusal:
        if override is None:
            raise
        return _overridden(artifact, override, refusal, record)
    return Passage(f'passed its validation: {verdict.text}')


def _verdict(report: str | Path | None, artifact: Artifact, deployment: Deployment, gate: Gate) -> Verdict:
    place = find_report(artifact.path) if report is None else Path(report)
    if place is None:
        raise GateError(
            expected=f'a report of the validation of {artifact.path}',
            found='none beside it',
            remedy=f'run `vdd validate --student {artifact.path}` and look at it, or name another report',
        )
    values = read_report(place)
    subject = values['subject']
    found = {'artifact': artifact.hash, 'contract': artifact.manifest.contract_hash}
    for what, expected in found.items():
        if subject[what] != expected:
            raise GateError(
                expected=f'a report of the {what} {expected[:12]}',
                found=f'one of {subject[what][:12]} at {place}',
                remedy=f'validate this very artifact: vdd validate --student {artifact.path}',
            )
    if subject['deployment'] != deployment.fingerprint:
        raise GateError(
            expected='the deployment parameters of the validation',
            found=_changed(values['deployment'], deployment),
            remedy=f'validate with these ones: vdd validate --student {artifact.path} --deployment FILE',
        )
    verdict = judge(values, gate)
    if not verdict.passes:
        raise GateError(
            expected=f'a validation that passes at {place}',
            found=verdict.text,
            remedy='train further, or look at the report and answer for it by name and reason',
        )
    return verdict


def _changed(validated: Mapping[str, Any], deployment: Deployment) -> str:
    """Return which parameters differ from those of a validation."""
    present = deployment.model_dump(mode='json', exclude={'operating_mode'})
    changes = [
        f'{name} {value!r} instead of {validated.get(name)!r}'
        for name, value in present.items()
        if validated.get(name) != value
    ]
    return ', '.join(changes) or 'other contents of joint_limits or rules'


def _overridden(artifact: Artifact, override: Override, refusal: GateError, record: str | Path | None) -> Passage:
    if not (override.name.strip() and override.reason.strip()):
        raise GateError(
            expected='the name of who lets this policy through, and the reason',
            found=f'name {override.name!r}, reason {override.reason!r}',
            remedy='give both; they are kept',
        ) from refusal
    path = artifact.path.with_name(f'{artifact.path.name}.overrides.jsonl') if record is None else Path(record)
    entry: dict[str, Any] = {
        'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        'artifact': artifact.hash,
        'contract': artifact.manifest.contract_hash,
        'name': override.name,
        'reason': override.reason,
        'refusal': str(refusal),
    }
    try:
        with path.open('a', encoding='utf-8') as file:
            file.write(json.dumps(entry) + '\n')
    except OSError as error:
        raise GateError(
            expected=f'to write the override down in {path}',
            found=str(error.strerror),
            remedy='name a file that can be written',
        ) from refusal
    return Passage(f'{override.name} lets it through ({override.reason}) although: {refusal}', overridden=True)
