"""The gate of the policy node: only an artifact with a passing validation commands a real arm."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes.parameters import Parameter, Value
from vdd_ros.policy.artifact import Artifact
from vdd_ros.validation.gate import Override, Passage, load_gate, require

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
    """Return whether an artifact would pass the gate, in words; nothing is recorded.

    Raises
    ------
    GateError
        It has not passed its validation, and nobody answers for it.
    ConfigurationError
        The thresholds cannot be read.

    """
    if simulated or values['operating_mode'] == 'shadow':
        return f'asks for nothing {"in simulated time" if simulated else "in stage shadow"}'
    if values['override_name'] and values['override_reason']:
        return f'{values["override_name"]} answers for it: {values["override_reason"]}'
    return require(values['report'] or None, artifact, deployment, gate=load_gate(values['gate'] or None)).text


def admit(
    values: Mapping[str, Value], artifact: Artifact, deployment: Deployment, *, simulated: bool
) -> Passage | None:
    """Check that an artifact may command an arm.

    None without a real arm: in simulated time, and in shadow mode.

    Raises
    ------
    GateError
        It has not passed its validation, and nobody answers for it.
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
