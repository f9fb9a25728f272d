"""The examples of docs/contracts.md are contracts, and the reference has a table for every part of a contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from vdd_ros.contract.contract import Contract, load_contract

DOCS = Path(__file__).parents[2] / 'docs'
*EXAMPLES, IMAGES, CONTROLLERS = re.findall(
    r'```yaml\n(.*?)```', (DOCS / 'contracts.md').read_text(encoding='utf-8'), flags=re.DOTALL
)


@pytest.mark.parametrize('example', EXAMPLES, ids=['smallest', 'everything'])
def test_an_example_is_a_contract(tmp_path, example):
    file = tmp_path / 'contract.yaml'
    file.write_text(example)
    contract = load_contract(file)
    assert contract.observation_size > 0 and contract.action_size > 0


def test_the_images_of_a_camera_are_observed_beside_the_vector():
    smallest = yaml.safe_load(EXAMPLES[0])
    contract = Contract.model_validate({**smallest, **yaml.safe_load(IMAGES)})
    assert [image.name for image in contract.images] == ['front']
    assert contract.observation_size == len(smallest['robot']['joints'])


def test_the_actions_of_several_controllers_are_actions_of_a_contract():
    smallest = yaml.safe_load(EXAMPLES[0])
    contract = Contract.model_validate({**smallest, **yaml.safe_load(CONTROLLERS)})
    arm, gripper, right = contract.controllers
    assert arm.joints == tuple(smallest['robot']['joints'])
    assert gripper.joints == ('finger_joint',) and right.topic == 'right_arm/joint_trajectory'


def models(annotation: Any) -> set[type[BaseModel]]:
    """Return the models that a type is made of, and those of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}.union(*(models(field.annotation) for field in annotation.model_fields.values()))
    return set().union(*map(models, get_args(annotation)))


def test_every_part_of_a_contract_has_a_table():
    reference = (DOCS / 'reference' / 'contract_keys.md').read_text(encoding='utf-8')
    tables = set(re.findall(r'```{keys} (\S+)', reference))
    assert {f'{model.__module__}.{model.__name__}' for model in models(Contract)} == tables
