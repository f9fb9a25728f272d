"""The gate of the policy node: only an artifact with a passing validation commands a real arm."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes.parameters import Parameter, Value
from vdd_ros.policy.artifact import Artifact
from vdd_ros.validation.gate import Override, Passage, require
from vdd_ros.validation.thresholds import load_gate

PARAMETERS = (
    Parameter(
        'report',
        '',
        'validation report of the artifact: folder or report.json; empty: beside the artifact',
        path=True,
    ),
    Parameter('gate', '', 'file with the thresholds; empty: config/gate.yaml', path=True),
    Parameter('override_name', '', 'name of the operator who overrides the gate; logged and stored'),
    Parameter('override_reason', '', 'reason of the override'),
    Parameter('override_record', '', 'file for overrides; empty: ARTIFACT.overrides.jsonl', path=True),
)


def outlook(values: Mapping[str, Value], artifact: Artifact, deployment: Deployment, *, simulated: bool) -> str:
    """Return in words how an artifact passes the gate. Unlike `admit`, write no record.

    Raises
    ------
    GateError
        The artifact has not passed its validation, and there is no override.
    ConfigurationError
        The thresholds cannot be read.

    """
    if simulated or values['operating_mode'] == 'shadow':
        return f'not required {"in simulated time" if simulated else "in shadow mode"}'
    if values['override_name'] and values['override_reason']:
        return f'{values["override_name"]} overrides it: {values["override_reason"]}'
    return require(values['report'] or None, artifact, deployment, gate=load_gate(values['gate'] or None)).text


def admit(
    values: Mapping[str, Value], artifact: Artifact, deployment: Deployment, *, simulated: bool
) -> Passage | None:
    """Check that an artifact may command an arm, and return the record of the check.

    The result is None without a real arm: in simulated time, and in shadow mode.

    Raises
    ------
    GateError
        The artifact has not passed its validation, and there is no override.
    ConfigurationError
        The thresholds cannot be read.

    """
    if simulated or values['operating_mode'] == 'shadow':
        return None
    override = None
    if values['override_name'] or values['override_reason']:
        override = Override(values['override_name'], values['override_reason'])
    return require(
        values['report'] or None,
        artifact,
        deployment,
        gate=load_gate(values['gate'] or None),
        override=override,
        record=values['override_record'] or None,
    )
