"""What the dashboard makes of diagnostics, and who may use it: without ROS and without a browser."""

from __future__ import annotations

import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.nodes.dashboard.access import is_loopback, is_own_name, load_token, permits
from vdd_ros.nodes.dashboard.watch import Watch

VALUES = {
    'operating_mode': 'slow',
    'joints': 'shoulder elbow wrist',
    'outcome': 'command',
    'rate': '250.0',
    'speed': '0.30',
    'expert': '1',
    'expert_names': '0, to the left, 2',
    'expert_colours': '#000001 #000002 #000003',
    'gating': '0.2500 0.5000 0.2500',
    'rules': 'night, no cans',
    'explanation': 'expert 1 acts',
    'density': '-2.000',
    'density_thresholds': '-1 -3 -5',
    'likelihood': '4.000',
    'likelihood_thresholds': '1 -2 -6',
    'ood_level': 'warn',
    'clamped_velocity': '4 0 2',
    'clamped_jerk': '0 0 0',
    'lateness_p50_us': '60',
    'lateness_p95_us': '90',
    'lateness_p99_us': '150',
    'age_p99_ms': '1.25',
    'plans': '12',
}


def watch(*changes: dict[str, str]) -> Watch:
    """Return a watch of statuses that come once a second from second 0."""
    found = Watch('/policy_node', 3.0)
    for second, change in enumerate(changes):
        found.take(float(second), 0, 'commanding', {**VALUES, **change})
    return found


def test_values_become_what_the_page_shows():
    state = watch({}).state(0.5)
    assert (state['stage'], state['speed'], state['rate'], state['level']) == ('slow', 0.3, 250.0, 'ok')
    assert state['expert'] == {'number': 1, 'name': 'to the left', 'colour': '#000002', 'probability': 0.5}
    assert [each['probability'] for each in state['experts']] == [0.25, 0.5, 0.25]
    assert state['rules'] == ['night', 'no cans'] and state['counts'] == {'plans': 12}
    assert state['latency'][0]['p99'] == pytest.approx(0.15) and state['latency'][1]['p50'] is None
    assert watch({'stage': 'limited'}).state(0)['stage'] == 'limited'
    assert watch({'stage': 'none'}).state(0)['stage'] == 'slow'
    assert watch({'enabling_device': 'held'}).state(0)['device'] == 'held'
    assert watch({'rules': 'none'}).state(0)['rules'] == []


def test_the_ood_score_is_nought_at_the_threshold_of_a_warning_and_one_at_that_of_a_stop():
    for value, score in ((-1.0, 0.0), (-2.0, 0.25), (-5.0, 1.0), (0.0, -0.25)):
        ood = watch({'density': f'{value}'}).state(0)['ood']
        assert ood['signals'][0]['score'] == pytest.approx(score) and ood['signals'][0]['slow'] == pytest.approx(0.5)
        assert ood['score'] == pytest.approx(score)
    nothing = watch({'density': 'nan', 'likelihood': ''}).state(0)['ood']
    assert (nothing['signals'], nothing['score']) == ([], None)


def test_a_limit_acts_on_the_joints_whose_count_has_grown_since_the_last_status():
    limits = watch({}, {'clamped_velocity': '4 0 5'}, {'clamped_velocity': '4 0 5'})
    assert limits.state(2)['limits'] == [{'kind': 'velocity', 'joints': [], 'total': 9}]
    assert watch({}).state(0)['limits'] == [{'kind': 'velocity', 'joints': [], 'total': 6}]
    grown = watch({}, {'clamped_velocity': '4 0 5'}).state(1)['limits']
    assert grown == [{'kind': 'velocity', 'joints': ['wrist'], 'total': 9}]


def test_values_are_stale_before_the_first_status_and_some_time_after_the_last():
    found = Watch('/policy_node', 3.0)
    found.note('/left/policy_node')
    state = found.state(10.0)
    assert (state['age'], state['stale'], state['others'], state['point']) == (None, True, ['/left/policy_node'], None)
    found.take(10.0, 2, 'stopped', VALUES)
    assert [found.state(now)['stale'] for now in (10.0, 12.9, 13.1)] == [False, False, True]
    assert found.state(10.0)['level'] == 'error'


def test_the_history_has_the_newest_three_minutes_with_their_ages():
    found = watch(*({'expert': str(second % 3)} for second in range(300)))
    history = found.history(299.5)
    assert [point['age'] for point in history] == [second + 0.5 for second in range(179, -1, -1)]
    assert history[-1]['expert'] == 299 % 3 and history[-1]['gating'] == [0.25, 0.5, 0.25]
    assert history[-1]['lateness'] == pytest.approx(0.15) and history[-1]['score'] == pytest.approx(0.25)


@pytest.mark.parametrize(
    'change',
    [
        {},
        {'expert': '7', 'gating': '0.5'},
        {'clamped_velocity': '1 2 3 4 5', 'joints': ''},
        {'expert_names': '', 'expert_colours': ''},
        {'density_thresholds': 'inf x'},
        {'rate': 'fast'},
    ],
)
def test_statuses_of_another_version_are_shown_as_far_as_they_can_be_read(change):
    assert watch({}, change).state(1)['message'] == 'commanding'


def test_a_token_is_created_for_its_owner_alone_and_read_again(tmp_path):
    file = tmp_path / 'folder' / 'token'
    token = load_token(str(file))
    assert len(token) >= 32 and file.stat().st_mode & 0o777 == 0o600
    assert load_token(str(file)) == token != load_token(str(tmp_path / 'other'))


@pytest.mark.parametrize(('text', 'mode'), [('x' * 32, 0o644), ('short', 0o600), ('a b' * 16, 0o600), ('', 0o600)])
def test_a_token_that_others_can_read_or_guess_is_refused(tmp_path, text, mode):
    file = tmp_path / 'token'
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match='expected a token'):
        load_token(str(file))


def test_a_token_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigurationError, match='expected a file with a token'):
        load_token(str(tmp_path / 'file' / 'token'))


@pytest.mark.parametrize(
    ('token', 'header', 'permitted'),
    [
        ('secret', 'Bearer secret', True),
        ('secret', 'bearer  secret', True),
        ('secret', 'Bearer secre', False),
        ('secret', 'Basic secret', False),
        ('secret', '', False),
        ('', 'Bearer ', False),
        ('', '', False),
        ('secret', 'Bearer sécret', False),
    ],
)
def test_only_the_token_permits(token, header, permitted):
    assert permits(token, header) == permitted


@pytest.mark.parametrize(
    ('host', 'own'),
    [
        ('localhost:8600', True),
        ('127.0.0.1:8600', True),
        ('127.0.0.1', True),
        ('[::1]:8600', True),
        ('192.168.1.4:8600', True),
        ('cell-3.example', True),
        ('attacker.example', False),
        ('localhost.attacker.example:8600', False),
        ('127.0.0.1.attacker.example', False),
        ('', False),
    ],
)
def test_other_names_of_the_server_are_refused(host, own):
    assert is_own_name(host, 'cell-3.example') == own


def test_loopback_addresses_are_known():
    assert all(map(is_loopback, ('localhost', '127.0.0.1', '127.3.2.1', '::1')))
    assert not any(map(is_loopback, ('0.0.0.0', '::', '192.168.1.4', 'cell-3.example', '')))
