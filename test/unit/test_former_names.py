"""Keys that were renamed are still read, with a warning; a value by both names is refused."""

from __future__ import annotations

import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.deployment import Deployment, load_deployment
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.nodes.messages import EpisodeEvent, from_episode, to_episode
from vdd_ros.sim.tasks import SceneTask, SuccessDetector
from vdd_ros.validation.report_file import FORMAT, read_report, sealed


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


def test_a_task_by_former_names_is_accepted_with_a_warning():
    with pytest.warns(FutureWarning, match='way of .*Near is now named mode'):

        class Near(SuccessDetector):
            def judge(self, simulation):
                return 'success'

            @property
            def way(self):
                return 1

    with pytest.warns(FutureWarning, match='way_names of .*Reach is now named mode_names'):

        class Reach(SceneTask):
            way_names = ('near', 'far')

    assert Near().mode == 1
    assert Reach.mode_names == ('near', 'far')


def test_a_report_by_former_names_is_read(tmp_path):
    outcomes = {'outcomes': {'way': [0, 1]}, 'ways': 2, 'way_counts': [1, 1]}
    former = {
        'report_version': FORMAT,
        'way_names': ['a', 'b'],
        'scenarios': [{'name': 'nominal', 'student': outcomes}],
    }
    (tmp_path / 'report.json').write_text(sealed(former))
    found = read_report(tmp_path)
    assert found['mode_names'] == ['a', 'b']
    assert found['scenarios'][0]['student'] == {'outcomes': {'mode': [0, 1]}, 'modes': 2, 'mode_counts': [1, 1]}


def test_the_mode_of_an_episode_message_is_read_by_its_former_name():
    message = to_episode(EpisodeEvent(5, 'end', 0, outcome='success', mode='left'))
    entry = next(each for each in message.status[0].values if each.key == 'mode')
    entry.key = 'way'
    assert from_episode(message).mode == 'left'
