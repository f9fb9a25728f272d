"""The stages of an arm over real DDS: evidence, refused promotions, demotions, the enabling device, the workspace."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from arms import ANSWERED, HOME, Arm, assert_smooth, limits_of, tool
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Joy
from std_msgs.msg import Bool, Float64MultiArray
from students import save_student

from vdd_ros.commands.cli import main
from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes import messages, qos
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.validation.report_file import FORMAT, sealed
from vdd_ros.validation.stage_log import append, read_log
from vdd_ros.validation.stages import Session, StageSettings, Subject, standing_of

pytestmark = pytest.mark.realtime

RATE = 100
STEP = 0.001
FULL_SPEED = STEP / 0.035
CHUNKS = {'prediction_horizon': 4}
EASY = {'hours': 0.0, 'episodes': 1, 'ood_share': None, 'disagreement': 3.0}


def grant(log: Path, artifact: Path, stage: str, settings: dict | None = None) -> None:
    """Write down a stage as `vdd promote` does, without evidence."""
    subject = Subject.of(load_artifact(artifact), Deployment(control_rate=RATE))
    values = {'stage': stage, 'subject': vars(subject)}
    parsed = StageSettings.parse(settings or {})
    append(log, 'stage', 'Ada', 'a test', {**values, 'settings': parsed.model_dump(mode='json')})


class Staged:
    """A policy node with a log of stages, and its arm."""

    def __init__(self, graph, log: Path, artifact: Path, **parameters: object) -> None:
        self.graph, self.log = graph, log
        given = {'use_sim_time': False, 'artifact': artifact, 'control_rate': float(RATE), 'stage_log': log}
        self.node = graph.start('policy_node', **{**given, **ANSWERED, **parameters})
        self.arm = Arm(graph)
        self.person = graph.node('person')
        self.seen: dict[str, str] = {}
        self.person.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, qos.DIAGNOSTICS)
        self._estop = self.person.create_publisher(Bool, 'policy_node/estop', qos.ESTOP)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.seen = {item.key: item.value for item in message.status[0].values} | {'text': message.status[0].message}

    def until(self, condition, **how) -> None:
        self.graph.until(lambda: self.arm.live(**how) and condition())

    def press_emergency_stop(self, pressed: bool = True) -> None:
        self.graph.until(self._estop.get_subscription_count)
        self._estop.publish(Bool(data=pressed))

    def stages(self) -> list[str]:
        return [entry.values['stage'] for entry in read_log(self.log) if entry.kind == 'stage']

    def is_barred(self, stage: str) -> None:
        """See that the arm rests, that ~/resume is refused, and that the log names the stage."""
        self.until(lambda: self.stages()[-1] == stage)
        self.until(lambda: self.arm.rests(20))
        assert_smooth(self.arm.commands, RATE)
        answer = self.arm.ask('resume')
        assert not answer.success and 'clean up and configure' in answer.message


@pytest.fixture
def log(tmp_path) -> Path:
    """Where the log of the arm is."""
    return tmp_path / 'arm.jsonl'


def save_report(artifact: Path, **parameters: object) -> None:
    """Write the report of a validation as deployed, which any gate passes that asks for latency alone."""
    read, deployment = load_artifact(artifact), Deployment.parse(parameters)
    subject = {'artifact': read.hash, 'contract': read.manifest.contract_hash, 'period': 0.035}
    values = {
        'report_version': FORMAT,
        'subject': {**subject, 'deployment': deployment.fingerprint},
        'deployment': deployment.model_dump(mode='json'),
        'mode_names': ['a'],
        'scenarios': [],
        'latency_us': {'student': {'p99': 100.0}},
    }
    folder = artifact.with_name(f'{artifact.name}.report')
    folder.mkdir(exist_ok=True)
    (folder / 'report.json').write_text(sealed(values))


def test_from_shadow_to_supervised_every_part_of_the_evidence_is_asked_for(graph, tmp_path, log, capsys):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS)
    (tmp_path / 'policy.yaml').write_text(f'/**/policy_node: {{ros__parameters: {{control_rate: {RATE}.0}}}}')
    (tmp_path / 'gate.yaml').write_text('latency: 0.5')

    def promote(stage: str, **bounds: object) -> str:
        requirement = {**EASY, **bounds}
        (tmp_path / 'stages.yaml').write_text(f'to_supervised: {requirement}'.replace('None', 'null').replace("'", ''))
        named = {'gate': 'gate', 'settings': 'stages', 'deployment': 'policy'}
        files = [f'--{option}={tmp_path}/{name}.yaml' for option, name in named.items()]
        code = main(['promote', str(log), stage, f'--student={artifact}', '--who=Ada', '--why=a test', *files])
        found = capsys.readouterr()
        return '' if code is None or code == 0 else ' '.join(found.err.split())

    assert 'found none; begin one' in promote('supervised')
    assert not promote('shadow')
    staged = Staged(graph, log, artifact)
    others = graph.node('other').create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
    staged.arm.activate()
    position = HOME.copy()

    def leads() -> bool:
        position[0] += 2e-4
        others.publish(messages.to_command(position))
        return len(staged.arm.commands) > 150

    staged.until(leads)
    staged.until(lambda: leads() and 'difference_p99_rad' in staged.seen)
    assert staged.seen['stage'] == staged.seen['operating_mode'] == 'shadow'
    assert staged.person.count_publishers('/arm_controller/commands') == 1
    staged.arm.live()
    assert staged.arm.change(Transition.TRANSITION_DEACTIVATE)
    session = Session.of(read_log(log)[-1])
    assert session.seconds > 0.5 and session.episodes == 1 and 0 < session.disagreement < 1

    assert 'a validation report of' in promote('supervised')
    save_report(artifact)
    assert 'the deployment parameters of the validation; found control_rate' in promote('supervised')
    save_report(artifact, control_rate=RATE)
    assert 'of 1 hours in shadow' in promote('supervised', hours=1)
    assert '1 of 2 episodes' in promote('supervised', episodes=2)
    assert 'no share of the time out of distribution' in promote('supervised', ood_share=0.5)
    assert 'greatest 1e-05' in promote('supervised', disagreement=1e-5)
    assert 'no success was measured' in promote('supervised', success=0.5)
    assert 'found one to limited' in promote('limited')
    assert staged.stages() == ['shadow']
    assert not promote('supervised')
    # The node is still configured for shadow; what was granted meanwhile needs another configuration.
    assert not staged.arm.change(Transition.TRANSITION_ACTIVATE)
    assert 'clean up and configure the node' in staged.node.text
    assert main(['stages', str(log), '--history']) == 0
    assert staged.node.stop() == 0


def test_a_safety_stop_that_does_not_lower_the_stage_prevents_the_promotion(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS)
    grant(log, artifact, 'limited', {'to_full': EASY, 'demotion': {'safety_stops': 2}})
    staged = Staged(graph, log, artifact)
    staged.arm.activate()
    staged.until(lambda: len(staged.arm.commands) > RATE)  # a second of operation, which is sampled five times
    staged.press_emergency_stop()
    staged.until(lambda: read_log(log)[-1].kind == 'session')
    assert standing_of(log).shortcomings() == ['1 safety stops (emergency stop)']
    assert staged.node.stop() == 0


def test_supervised_the_arm_moves_only_while_the_device_is_held_and_comes_to_rest_20_of_20_times(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS)
    grant(log, artifact, 'supervised', {'supervised': {'speed': 0.5}})
    staged = Staged(graph, log, artifact, enabling_timeout=0.15)
    arm, device = staged.arm, staged.person.create_publisher(Bool, 'policy_node/enable', 10)
    arm.activate()
    hold = lambda held=True: device.publish(Bool(data=held)) or True  # noqa: E731
    staged.until(lambda: arm.rests(10) and 'enabling_device' in staged.seen)
    assert np.array_equal(arm.commands[-1], arm.commands[0])
    assert staged.seen['stage'] == 'supervised' and 'no message from the enabling device' in staged.seen['text']
    for number in range(20):
        begin = tool(arm.commands[-1])
        staged.until(lambda begin=begin: hold() and tool(arm.commands[-1])[1] - begin[1] > 0.002)
        speed = np.linalg.norm(tool(arm.commands[-1]) - tool(arm.commands[-6])) * RATE / 5
        assert 0.3 * FULL_SPEED < speed < 0.6 * FULL_SPEED  # half of full speed is permitted
        released, silent = len(arm.commands), number % 4 == 3
        staged.until(lambda silent=silent: (silent or hold(False)) and arm.rests(8))
        assert tool(arm.commands[-1])[1] > tool(arm.commands[released - 1])[1]  # it brakes, and does not leap
        assert len(arm.commands) - released < 0.6 * RATE + 8
    assert_smooth(arm.commands, RATE, limits_of(operating_mode='slow', slow_speed=0.5))
    staged.until(lambda: 'no message from the enabling device' in staged.seen['enabling_device'])
    assert staged.node.stop() == 0
    assert Session.of(read_log(log)[-1]).safety_stops == ()


def test_supervised_a_button_of_a_joystick_is_the_device_and_no_plan_leaves_the_workspace(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS)
    border = float(tool(HOME)[1]) + 0.01
    grant(log, artifact, 'supervised', {'supervised': {'speed': 1.0, 'workspace': {'y': [None, border]}}})
    staged = Staged(graph, log, artifact, enabling_button=4)
    joy = staged.person.create_publisher(Joy, 'joy', 10)
    press = lambda button: joy.publish(Joy(buttons=[int(each == button) for each in range(6)])) or True  # noqa: E731
    staged.arm.activate()
    staged.until(lambda: press(3) and 'released' in staged.seen.get('enabling_device', ''))
    assert staged.arm.rests(10)
    staged.until(lambda: press(4) and 'out of the workspace' in staged.seen['text'] and staged.arm.rests(20))
    reached = np.array([tool(command)[1] for command in staged.arm.commands])
    assert border - 0.008 < reached.max() <= border
    assert_smooth(staged.arm.commands, RATE)
    assert staged.node.stop() == 0


def test_full_an_emergency_stop_lowers_the_stage_and_the_node_goes_on_in_it_after_configuration(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP], [STEP, 0.0]], change=CHUNKS)
    grant(log, artifact, 'full', {'limited': {'speed': 0.5, 'experts': [1]}})
    staged = Staged(graph, log, artifact)
    staged.arm.activate()
    staged.arm.moves(0.002)
    assert staged.arm.ask('stop').success
    staged.arm.resume()  # a person may
    staged.arm.moves(0.001)
    staged.press_emergency_stop()
    staged.until(lambda: staged.stages()[-1] == 'limited')
    staged.press_emergency_stop(False)
    staged.until(lambda: 'clean up and configure' in staged.arm.ask('resume').message)
    staged.is_barred('limited')
    assert read_log(log)[-1].why == '1 safety stops, the last one: emergency stop'
    assert re.match('node /policy_node', read_log(log)[-1].who)
    staged.arm.live()
    assert not staged.arm.change(Transition.TRANSITION_CONFIGURE)  # not before it is cleaned up
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert staged.arm.change(transition)
    staged.arm.configured = False
    staged.arm.commands.clear()
    staged.arm.activate()
    begin = tool(HOME)
    staged.arm.moves(0.006)
    staged.until(lambda: staged.seen['stage'] == 'limited')
    assert staged.seen['operating_mode'] == 'slow'
    moved = tool(staged.arm.commands[-1]) - begin
    assert moved[0] > 0.005 and abs(moved[1]) < 1e-3  # only expert 1 acts
    pace = (tool(staged.arm.commands[-1]) - tool(staged.arm.commands[-21]))[0] * RATE / 20
    assert 0.4 * FULL_SPEED < pace < 0.55 * FULL_SPEED
    assert staged.node.stop() == 0


def test_a_measurement_that_cannot_be_lowers_the_stage(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS)
    grant(log, artifact, 'limited')
    staged = Staged(graph, log, artifact)
    staged.arm.activate()
    staged.arm.moves(0.001)
    staged.until(lambda: 'stopped' in staged.seen.get('text', ''), position=HOME + 0.5)
    staged.is_barred('supervised')
    assert standing_of(log).evidence.seconds == 0
    assert staged.node.stop() == 0


@pytest.mark.parametrize(
    ('cause', 'reason'),
    [
        ('invalid outputs', 'not finite'),
        ('a second program', 'commands on arm_controller/commands, too'),
        ('no following', 'follow'),
    ],
)
def test_every_other_safety_stop_lowers_the_stage(graph, tmp_path, log, cause, reason):
    border = float(tool(HOME)[1]) + 0.004 if cause == 'invalid outputs' else None
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS, nan_above=border)
    grant(log, artifact, 'full')
    staged = Staged(graph, log, artifact)
    staged.arm.activate()
    staged.arm.moves(0.001)
    still = {}
    if cause == 'a second program':
        graph.node('rival').create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
    if cause == 'no following':
        still = {'position': np.array(staged.arm.commands[-1])}
    staged.until(lambda: staged.stages()[-1] == 'limited', **still)
    assert reason in read_log(log)[-1].why
    staged.until(lambda: 'clean up and configure' in staged.seen.get('text', ''), **still)
    assert not staged.arm.ask('resume').success
    assert staged.node.stop() == 0


def test_long_time_out_of_distribution_lowers_the_stage(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS, unusual=True)
    grant(log, artifact, 'full', {'demotion': {'ood_share': 0.5, 'ood_window': 0.7}})
    staged = Staged(graph, log, artifact)
    staged.arm.activate()
    staged.is_barred('limited')
    assert 'out of distribution for 100%' in read_log(log)[-1].why
    session = next(Session.of(entry) for entry in read_log(log) if entry.kind == 'session')
    assert session.ood_seconds == session.seconds >= 0.7
    assert staged.node.stop() == 0


def test_a_person_lowers_the_stage_and_an_edited_log_stops_the_arm(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS)
    grant(log, artifact, 'full')
    staged = Staged(graph, log, artifact)
    staged.arm.activate()
    staged.arm.moves(0.001)
    assert not main(['demote', str(log), '--who=Ada', '--why=new gripper', '--to=limited'])
    staged.is_barred('limited')
    assert 'granted by Ada: new gripper' in staged.node.text
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert staged.arm.change(transition)
    staged.arm.configured = False
    staged.arm.commands.clear()
    staged.arm.activate()
    staged.arm.moves(0.001)
    log.write_text(log.read_text().replace('"limited"', '"full"'))
    staged.until(lambda: 'as it was written' in staged.seen['text'] and staged.arm.rests(20))
    assert_smooth(staged.arm.commands, RATE)
    assert not staged.arm.ask('resume').success
    staged.node.stop()


def test_a_node_without_permission_does_not_run(graph, tmp_path, log):
    artifact = save_student(tmp_path / 'student', [[0.0, STEP]], change=CHUNKS)
    other = save_student(tmp_path / 'other', [[0.0, 2 * STEP]], change=CHUNKS)
    grant(log, artifact, 'full')
    given = {'use_sim_time': False, 'artifact': artifact, 'autostart': True, 'stage_log': log, **ANSWERED}
    deviations = {
        'expected a log of stages': {'stage_log': tmp_path / 'none.jsonl'},
        'expected the deployment': {'control_rate': 2.0 * RATE},
        'expected the artifact': {'control_rate': float(RATE), 'artifact': other},
    }
    nodes = [graph.start('policy_node', **{**given, **deviation}) for deviation in deviations.values()]
    for node, text in zip(nodes, deviations):
        assert node.wait() == 2 and text in node.text
