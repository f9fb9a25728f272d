"""Private ROS domains: free ones, one for each run, and nothing of the user's environment that leads out of them."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from vdd_ros.common.domain import DOMAINS, domain_environment, in_domain, private_domain, used_ports

_USERS = {
    'ROS_DOMAIN_ID': '52',
    'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET',
    'ROS_STATIC_PEERS': '192.0.2.7',
    'ROS_DISCOVERY_SERVER': '192.0.2.7:11811',
    'CYCLONEDDS_URI': '<CycloneDDS/>',
    'FASTDDS_DEFAULT_PROFILES_FILE': 'peers.xml',
}


@pytest.fixture
def users_environment(monkeypatch):
    """The environment of a person whose robot is on another host, in a domain of its own."""
    for name, value in _USERS.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_each_run_holds_another_domain_and_none_that_of_the_user(users_environment):
    with private_domain() as first:
        assert first in DOMAINS and first != 0
        following = DOMAINS[(DOMAINS.index(first) + 1) % len(DOMAINS)]
        users_environment.setenv('ROS_DOMAIN_ID', f' {following}')
        with private_domain() as second:
            assert second not in (first, following)


def test_a_held_domain_is_not_given_to_another_process_until_its_holder_is_gone():
    claim = (
        'from vdd_ros.common.domain import private_domain\n'
        'with private_domain() as domain: print(domain, flush=True); input()'
    )
    holder = subprocess.Popen([sys.executable, '-c', claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    held = int(holder.stdout.readline())
    assert not used_ports(held)
    given = []
    for _ in DOMAINS:
        with private_domain() as domain:
            given.append(domain)
    assert held not in given and len(set(given)) > len(DOMAINS) / 2
    holder.kill()
    holder.communicate()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(('127.0.0.1', 7400 + 250 * held + 249))


@pytest.mark.parametrize('port', [0, 10, 13, 41])
def test_a_domain_in_which_a_participant_has_a_port_is_passed_over(port):
    with private_domain() as domain:
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as for a port of a multicast group
        participant.bind(('', 7400 + 250 * domain + port))
        assert used_ports(domain) == [7400 + 250 * domain + port]
        for _ in DOMAINS:
            with private_domain() as other:
                assert other != domain
    assert not used_ports(domain)


@pytest.mark.parametrize(('distribution', 'local'), [('humble', '1'), ('kilted', None), (None, None)])
def test_what_the_user_has_set_neither_chooses_the_domain_nor_leads_beyond_this_host(
    users_environment, distribution, local
):
    if distribution is None:
        users_environment.delenv('ROS_DISTRO', raising=False)
    else:
        users_environment.setenv('ROS_DISTRO', distribution)
    users_environment.setenv('ROS_LOCALHOST_ONLY', '0')
    users_environment.setenv('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp')
    found = domain_environment(7)
    assert (found['ROS_DOMAIN_ID'], found['ROS_AUTOMATIC_DISCOVERY_RANGE']) == ('7', 'LOCALHOST')
    assert found.get('ROS_LOCALHOST_ONLY') == local
    assert not {name for name, value in _USERS.items() if found.get(name) == value}
    assert found['RMW_IMPLEMENTATION'] == 'rmw_cyclonedds_cpp' and 'PATH' in found


def test_a_process_that_was_in_a_private_domain_has_its_environment_back(users_environment):
    import os

    users_environment.delenv('ROS_STATIC_PEERS')
    before = dict(os.environ)
    with in_domain(7):
        assert os.environ['ROS_DOMAIN_ID'] == '7' and 'CYCLONEDDS_URI' not in os.environ
    assert dict(os.environ) == before
