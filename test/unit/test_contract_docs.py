"""What docs/contracts.md shows is valid, and what contracts can say is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vdd_ros.contract.contract import Contract, Feature, Robot, ToolWeights, Topics, load_contract
from vdd_ros.contract.episode_rules import Episodes, Signal
from vdd_ros.contract.features import UNITS, Alignment, Image, JointStream, TopicFeature

TEXT = (Path(__file__).parents[2] / 'docs' / 'contracts.md').read_text(encoding='utf-8')
EXAMPLES = re.findall(r'```yaml\n(.*?)```', TEXT, flags=re.DOTALL)
MODELS = (Contract, Feature, Robot, ToolWeights, Topics, Episodes, Signal, Alignment, Image, JointStream, TopicFeature)


@pytest.mark.parametrize('example', EXAMPLES, ids=['smallest', 'everything'])
def test_an_example_is_a_contract(tmp_path, example):
    file = tmp_path / 'contract.yaml'
    file.write_text(example)
    contract = load_contract(file)
    assert contract.observation_size > 0 and contract.action_size > 0


def test_every_key_and_unit_is_explained():
    words = set(re.findall(r'\w+', TEXT))
    keys = {key for model in MODELS for key in model.model_fields} - {'further_actions'}  # YAML lists actions
    assert not keys - words
    assert not set(UNITS) - words
