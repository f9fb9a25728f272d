"""The deployment gate: only a validated policy may command an arm, unless an operator overrides the gate.

The verdict is not read from a report. It is computed from the episodes in the report and the local thresholds.
This module imports neither torch nor MuJoCo, because the policy node uses it on the robot.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdd_ros.common.errors import GateError, remedied
from vdd_ros.policy.artifact import Artifact
from vdd_ros.validation.judgement import Verdict, judge
from vdd_ros.validation.report_file import REPORT, read_report
from vdd_ros.validation.thresholds import Gate, load_gate

if TYPE_CHECKING:
    from vdd_ros.control.deployment import Deployment


@dataclass(frozen=True)
class Override:
    """An override of the gate by an operator."""

    name: str
    """Name of the operator."""
    reason: str
    """Reason for the override."""


@dataclass(frozen=True)
class Passage:
    """The result of passing the gate."""

    text: str
    """Message for the operator."""
    overridden: bool = False
    """Whether the gate was overridden."""


def find_report(artifact: Path) -> Path | None:
    """Return the report of an artifact: in ``<artifact>.report``, or in the folder of the artifact."""
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
    """Check that an artifact has passed its validation, or that an operator overrides the gate.

    Parameters
    ----------
    report
        The folder of the report, or the file ``report.json``; None: the result of `find_report`.
    artifact
        The policy to be deployed, loaded and verified by `load_artifact`.
    deployment
        The deployment parameters. A verdict is only valid for the parameters of the validation.
    gate
        The thresholds; by default the shipped ones, or those of an overlay workspace.
    override
        Name of the operator and reason of an override.
    record
        The log file of overrides, one line of JSON each; by default ``<artifact>.overrides.jsonl``.

    Raises
    ------
    GateError
        There is no override, and the report is missing, was altered, does not pass, or belongs to another artifact,
        contract or deployment. Or the override lacks name or reason, or cannot be logged.
    ConfigurationError
        The shipped thresholds cannot be read.

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
            expected=f'a validation report of {artifact.path}',
            found='none beside the artifact',
            remedy=f'run `vdd validate --student {artifact.path}` and review the report, or give another report',
        )
    values = read_report(place)
    subject = values['subject']
    found = {'artifact': artifact.hash, 'contract': artifact.manifest.contract_hash}
    for what, expected in found.items():
        if subject[what] != expected:
            raise GateError(
                expected=f'a report of the {what} {expected[:12]}',
                found=f'one of {subject[what][:12]} at {place}',
                remedy=f'validate this artifact: vdd validate --student {artifact.path}',
            )
    if subject['deployment'] != deployment.fingerprint:
        raise GateError(
            expected='the deployment parameters of the validation',
            found=_changed(values['deployment'], deployment),
            remedy=f'validate with these parameters: vdd validate --student {artifact.path} --deployment FILE',
        )
    verdict = judge(values, gate)
    if not verdict.passes:
        raise GateError(
            expected=f'a validation that passes at {place}',
            found=verdict.text,
            remedy='train further, or review the report and override the gate with name and reason',
        )
    return verdict


def _changed(validated: Mapping[str, Any], deployment: Deployment) -> str:
    """Describe the parameters that differ from those of a validation."""
    present = deployment.model_dump(mode='json', exclude={'operating_mode'})
    changes = [
        f'{name} {value!r} instead of {validated.get(name)!r}'
        for name, value in present.items()
        if validated.get(name) != value
    ]
    return ', '.join(changes) or 'different contents of joint_limits or rules'


def _overridden(artifact: Artifact, override: Override, refusal: GateError, record: str | Path | None) -> Passage:
    if not (override.name.strip() and override.reason.strip()):
        raise GateError(
            expected='name and reason of the override',
            found=f'name {override.name!r}, reason {override.reason!r}',
            remedy='give both; they are logged',
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
    with (
        remedied(GateError, expected=f'a writable log of overrides at {path}', remedy='choose a writable file'),
        path.open('a', encoding='utf-8') as file,
    ):
        file.write(json.dumps(entry) + '\n')
    return Passage(f'gate overridden by {override.name} ({override.reason}): {refusal}', overridden=True)
