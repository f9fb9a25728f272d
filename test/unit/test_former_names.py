"""Keys that were renamed are still read, with a warning; a value by both names is refused."""

from __future__ import annotations

import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.deployment import Deployment, load_deployment
from vdd_ros.learning.learning_settings import LearningSettings


def test_former_names_of_deployment_parameters_are_read_from_yaml_with_a_warning(tmp_path):
    file = tmp_path / 'policy.yaml'
    file.write_text(
        '/**/policy_node:\n  ros__parameters: {stage: slow, keep_above: 0.5, novelty: watch, spread: 0.1}\n'
    )
    with pytest.warns(FutureWarning, match='stage of Deployment is now named operating_mode'):
        found = load_deployment(file)
    assert found == Deployment(
        operating_mode='slow', expert_hysteresis=0.5, ood_response='watch', action_noise_scale=0.1
    )


def test_former_names_of_learning_settings_are_read_with_a_warning():
    with pytest.warns(FutureWarning, match='mean_init_std'):
        found = LearningSettings.parse({'student': {'spread': 0.25}})
    assert found.student.mean_init_std == 0.25
    with pytest.warns(FutureWarning, match='random'):
        assert LearningSettings.parse({'start': 'spread'}).start == 'random'


def test_a_value_by_both_names_is_refused():
    with pytest.raises(ConfigurationError, match='one value for operating_mode.*stage, its former name'):
        Deployment.parse({'stage': 'slow', 'operating_mode': 'full'})
