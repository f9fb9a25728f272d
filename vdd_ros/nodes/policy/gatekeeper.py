"""The policy node at the gate: nothing commands a real arm that has not passed its validation."""

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
        "report of the artifact's validation: folder or report.json; empty: beside the artifact",
        path=True,
    ),
    Parameter('gate', '', 'thresholds that it must pass; empty: those that ship (config/gate.yaml)', path=True),
    Parameter('override_name', '', 'who answers for an artifact that does not pass; logged and kept'),
    Parameter('override_reason', '', 'why'),
    Parameter('override_record', '', 'file that keeps it; empty: ARTIFACT.overrides.jsonl', path=True),
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
    """Let an artifact through to an arm; None where there is no real arm: in simulated time, and in the shadow stage.

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
