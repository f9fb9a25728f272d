"""The contract: what it refuses, and what its hash stands for."""

import pickle

import pytest
import yaml

from vdd_ros.contract import Contract, load_contract
from vdd_ros.errors import ContractError


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
    ('change', 'told'),
    [
        ({'polcy_rate': 20.0}, 'known keys: .*policy_rate'),
        ({'policy_rate': -1.0}, 'policy_rate'),
        ({'action_horizon': 9}, 'exceeds prediction_horizon'),
        ({'action': {'name': 'a', 'source': 'measured', 'space': 'joint'}}, 'source to `commanded`'),
        ({'observation': [{'name': 'a', 'source': 'measured', 'space': 'tool'}]}, 'axes go with'),
        ({'robot': {'model': 'panda', 'tool': 't', 'joints': ['a', 'a']}}, 'named twice'),
    ],
)
def test_what_a_contract_cannot_say_is_refused_in_one_line(tmp_path, change, told):
    file = tmp_path / 'contract.yaml'
    file.write_text(yaml.safe_dump({**_values(), **change}))
    with pytest.raises(ContractError, match=told) as caught:
        load_contract(file)
    assert '\n' not in str(caught.value)


def test_an_absent_contract_is_answered_with_those_that_ship():
    with pytest.raises(ContractError, match='avoiding_cartesian'):
        load_contract('no_such_contract')


def test_text_that_is_no_yaml_is_refused(tmp_path):
    file = tmp_path / 'contract.yaml'
    file.write_text('{a: [')
    with pytest.raises(ContractError, match='YAML'):
        load_contract(file)


def test_errors_keep_their_parts_on_the_way_between_processes():
    error = ContractError(expected='this', found='that', remedy='do so')
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ContractError and str(again) == str(error) and again.remedy == 'do so'
