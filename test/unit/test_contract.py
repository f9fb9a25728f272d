"""The contract: what it refuses, and what its hash stands for."""

import pickle
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vdd_ros.common.errors import ContractError
from vdd_ros.contract.contract import Contract, load_contract


def _values() -> dict:
    return load_contract('avoiding_cartesian').model_dump(mode='json')


@pytest.mark.parametrize('name', ['avoiding_cartesian', 'avoiding_joint'])
def test_shipped_contracts_are_valid(name):
    contract = load_contract(name)
    assert contract.name == name
    assert contract.period == 35_000_000


def test_sizes_follow_from_the_features():
    contract = load_contract('avoiding_joint')
    assert (contract.observation_size, contract.action_size) == (14, 7)


def test_hash_is_that_of_the_meaning_and_not_of_the_text(tmp_path):
    file = tmp_path / 'contract.yaml'
    file.write_text('# a comment\n' + yaml.safe_dump(_values(), sort_keys=True))
    assert load_contract(file).hash == load_contract('avoiding_cartesian').hash


@pytest.mark.parametrize('change', [{'policy_rate': 20.0}, {'action_mode': 'absolute'}, {'observation_stride': 3}])
def test_hash_changes_with_the_meaning(change):
    assert Contract.model_validate({**_values(), **change}).hash != load_contract('avoiding_cartesian').hash


@pytest.mark.parametrize(
    ('change', 'reported'),
    [
        ({'polcy_rate': 20.0}, 'known keys: .*policy_rate'),
        ({'policy_rate': -1.0}, 'policy_rate'),
        ({'action_horizon': 13}, 'exceeds prediction_horizon'),
        ({'action': {'name': 'a', 'source': 'measured', 'space': 'joint'}}, 'source to `commanded`'),
        ({'observation': [{'name': 'a', 'source': 'measured', 'space': 'tool'}]}, 'axes go with'),
        ({'robot': {'model': 'panda', 'tool': 't', 'joints': ['a', 'a']}}, 'named twice'),
    ],
)
def test_what_a_contract_cannot_express_is_refused_in_one_line(tmp_path, change, reported):
    file = tmp_path / 'contract.yaml'
    file.write_text(yaml.safe_dump({**_values(), **change}))
    with pytest.raises(ContractError, match=reported) as caught:
        load_contract(file)
    assert '\n' not in str(caught.value)


def _with_pose(robot: dict | None = None, **action) -> dict:
    values = _values()
    values['robot'] = {**values['robot'], **(robot or {})}
    pose = {'name': 'step', 'source': 'commanded', 'space': 'tool', 'axes': ['x', 'y', 'z'], 'rotation': '6d'}
    return {**values, 'schema_version': 2, 'action': {**pose, **action}}


def test_a_rotation_adds_six_numbers_after_the_axes():
    contract = Contract.model_validate(_with_pose())
    assert contract.action_size == 9
    parts = contract.parts_of(contract.action)
    assert parts == ('x', 'y', 'z', 'turn xx', 'turn yx', 'turn zx', 'turn xy', 'turn yy', 'turn zy')
    assert Contract.model_validate(_with_pose(axes=[])).action_size == 6


@pytest.mark.parametrize(
    ('values', 'reported'),
    [
        (_with_pose(space='joint', axes=[]), 'so does rotation'),
        (_with_pose(axes=['x', 'x']), 'named twice'),
        (_with_pose({'tool_weights': {'rotation': [1, 1, 2]}}), 'less than or equal to 1'),
        (_with_pose({'tool_weights': {'rotation': [0, 0, 0]}}), 'rotation is commanded, but'),
        (_with_pose({'tool_weights': {'position': [1, 0, 1]}}), 'y of the tool is commanded, but'),
        (_with_pose({'tool_weights': {'position': [0.5] * 3, 'rotation': [0, 0, 0.5]}}), 'at least one axis'),
        (
            _with_pose({'tool_weights': {'rotation': [1, 1, 0]}}, rotation=None, space='joint', axes=[]),
            'weights go with',
        ),
        ({**_with_pose(), 'further_actions': [_with_pose(axes=[], name='turn')['action']]}, 'commanded twice'),
        ({**_with_pose(), 'schema_version': 1}, 'schema_version: 2'),
        ({**_with_pose({'tool_weights': {'rotation': [1, 1, 0]}}, rotation=None), 'schema_version': 1}, 'version: 2'),
    ],
)
def test_a_pose_that_cannot_be_commanded_is_refused(values, reported):
    with pytest.raises(ValueError, match=reported):
        Contract.model_validate(values)


def test_hash_depends_on_rotation_and_weights_and_is_as_before_without_them():
    plain, pose = load_contract('placing_cartesian'), Contract.model_validate(_with_pose())
    weighed = Contract.model_validate(_with_pose({'tool_weights': {'rotation': [1, 1, 0]}}))
    assert len({plain.hash, pose.hash, weighed.hash}) == 3
    assert plain.model_copy(update=ONE_STEP).hash == PLACING


ONE_STEP = {'prediction_horizon': 1, 'action_horizon': 1}
PLACING = '34ec6e50e71cf0af2b00d2dff6ecc2495486ad561212018bc66a7a8cdaa944f0'

HASHES = {
    'avoiding_cartesian': 'e128dfd69341d4d5bdfd9b843691947a2b3b4af7bfbd687957412964f042624d',
    'avoiding_joint': '2a7621c74a362a0b451b5b010f169efd69169de8e17b230daaafff41b88491a8',
}


@pytest.mark.parametrize('name', HASHES)
def test_contracts_of_version_1_keep_the_hash_that_artifacts_are_bound_to(name):
    # Those that ship predict chunks since then; what artifacts of single steps are bound to has none.
    assert load_contract(name).model_copy(update=ONE_STEP).hash == HASHES[name]


PICK = """\
schema_version: 2
name: pick
robot: {model: panda, tool: tool_point, joints: [a, b, finger]}
measured:
  unit: degree
  sign: [1, -1, 1]
  align: {method: hold, max_age: .1}
policy_rate: 20
observation:
  - {name: arm, source: measured, space: joint, joints: [a, b]}
  - {name: force, topic: ft/wrench, type: WrenchStamped, fields: [wrench.force], align: {max_age: .1, latency: .01}}
  - name: object
    topic: object
    type: PoseStamped
    align: {method: interpolate, delay: .05, max_age: 1}
action:
  - {name: arm, source: commanded, space: joint, joints: [a, b]}
  - {name: gripper, source: commanded, space: joint, joints: [finger], mode: absolute}
"""


def _load(tmp_path, text: str) -> Contract:
    file = tmp_path / 'contract.yaml'
    file.write_text(text)
    return load_contract(file)


def test_a_contract_of_version_2_survives_conversion_to_a_manifest(tmp_path):
    contract = _load(tmp_path, PICK)
    again = Contract.model_validate_json(contract.model_dump_json())
    assert again == contract and again.hash == contract.hash
    assert (contract.observation_size, contract.action_size) == (2 + 3 + 9, 3)
    assert [contract.mode_of(feature) for feature in contract.actions] == ['delta', 'absolute']
    assert contract.topic_features[0].paths == ('wrench.force.x', 'wrench.force.y', 'wrench.force.z')
    assert [feature.stamp for feature in contract.topic_features] == ['header', 'header']


@pytest.mark.parametrize(
    ('old', 'new', 'line', 'reported'),
    [
        ('force], ', 'force], sgn: 1, ', 11, 'observation.1.sgn: .*known keys: .*sign'),
        ('policy_rate:', 'polcy_rate:', 8, 'polcy_rate: an unknown key; .*known keys: .*policy_rate'),
        ('degree', 'deg', 5, "measured.unit: .*'degree'"),
        ('delay: .05', 'delay: -1', 15, 'observation.2.align.delay'),
        ('interpolate, delay: .05', 'interpolate', 15, 'interpolating needs a delay'),
        ('mode: absolute', 'mod: absolute', 18, 'action.1.mod: .*known keys: .*mode'),
        ('joints: [finger]', 'joints: [thumb]', 18, 'thumb is no joint of the robot'),
        ('name: gripper, source: commanded', 'name: gripper, source: measured', 18, 'source to `commanded`'),
        ('policy_rate: 20', 'policy_rate: 20\npolicy_rate: 30', 9, 'policy_rate twice'),
        ('schema_version: 2', 'schema_version: 1', 4, 'set `schema_version: 2`'),
        ('schema_version: 2', 'schema_version: 4', 1, 'schema_version'),
        ('[1, -1, 1]', '[1, -1]', 6, 'sign has 2 entries for 3 numbers'),
        ('[1, -1, 1]', '[1, 2, 1]', 6, 'sign is 1 or -1'),
        ('type: PoseStamped', 'type: Posture', 12, 'write package/msg/Posture'),
        ('type: PoseStamped', 'type: my/msg/Posture', 12, 'whether to `stamp`'),
        ('type: PoseStamped', 'type: JointState', 12, 'with `joints`'),
        ('type: PoseStamped', 'type: PoseStamped\n    offset: 1', 12, 'plain numbers'),
        ('name: pick', 'name: [', 4, "',' or ']'"),
    ],
)
def test_a_complaint_names_the_line(tmp_path, old, new, line, reported):
    with pytest.raises(ContractError, match=rf'contract.yaml, line {line}; .*{reported}') as caught:
        _load(tmp_path, PICK.replace(old, new, 1))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['', '3', '- a', '&a [*a]', '\x00'])
def test_a_file_that_holds_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ContractError):
        _load(tmp_path, text)


def test_commands_that_were_not_recorded_cannot_be_observed(tmp_path):
    text = PICK.replace('policy_rate', 'commanded: {source: measured}\npolicy_rate')
    assert _load(tmp_path, text).commanded.source == 'measured'
    with pytest.raises(ContractError, match='line 11; .*cannot be observed'):
        _load(tmp_path, text.replace('source: measured, space', 'source: commanded, space'))


def test_an_absent_contract_is_answered_with_those_that_ship():
    with pytest.raises(ContractError, match='avoiding_cartesian'):
        load_contract('no_such_contract')


def test_text_that_is_no_yaml_is_refused(tmp_path):
    file = tmp_path / 'contract.yaml'
    file.write_text('{a: [')
    with pytest.raises(ContractError, match='YAML'):
        load_contract(file)


def test_errors_keep_their_parts_between_processes():
    error = ContractError(expected='this', found='that', remedy='do so')
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ContractError and str(again) == str(error) and again.remedy == 'do so'


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_whatever_is_in_a_file_it_is_a_contract_or_refused_in_one_line(data):
    lines = PICK.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(['drop', 'twice', 'cut', 'indent', 'word']))
        line = lines[place]
        cut = data.draw(st.integers(0, len(line)))
        word = data.draw(st.sampled_from(['', '-1', '[]', '{}', 'null', '!!python/name:os.system', '&a [*a]', '1e999']))
        lines[place] = {
            'drop': '',
            'twice': f'{line}\n{line}',
            'cut': line[:cut],
            'indent': f'  {line}',
            'word': f'{line.partition(":")[0]}: {word}',
        }[kind]
    with tempfile.TemporaryDirectory() as folder:
        try:
            _load(Path(folder), '\n'.join(lines))
        except ContractError as error:
            assert '\n' not in str(error) and 'contract.yaml' in str(error)
