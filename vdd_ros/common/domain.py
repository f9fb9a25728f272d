"""A ROS domain for one simulation: no other run, no robot and no other host takes part in it."""

from __future__ import annotations

import errno
import itertools
import os
import random
import socket
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import closing, contextmanager

from vdd_ros.common.errors import InterfaceError

DOMAINS = range(1, 102)
"""Private domains: beyond 101 the ports of a domain reach into those that the system hands out; 0 is the default of
every robot."""

_FIRST_PORT, _PORTS = 7400, 250
"""The ports of a domain by the RTPS standard: `_PORTS` for each from `_FIRST_PORT` on."""
_LOCK = _PORTS - 1
"""Which port of a domain its holder binds: the last, which the 120th participant of one host would take."""
DISCOVERY_VARIABLES = (
    'ROS_LOCALHOST_ONLY',
    'ROS_STATIC_PEERS',
    'ROS_DISCOVERY_SERVER',
    'ROS_SUPER_CLIENT',
    'FASTDDS_DEFAULT_PROFILES_FILE',
    'FASTRTPS_DEFAULT_PROFILES_FILE',
    'FASTDDS_ENVIRONMENT_FILE',
    'CYCLONEDDS_URI',
)
"""Variables that lead discovery beyond this host, or into another domain."""

_turns = itertools.count(random.SystemRandom().randrange(len(DOMAINS)))


@contextmanager
def private_domain() -> Iterator[int]:
    """Hold a domain in which nobody takes part, and which no other run on this host gets meanwhile.

    It is never that of the environment (`ROS_DOMAIN_ID`), nor one that this process has had lately. The lock is a UDP
    port of the domain itself: it holds wherever the participants would meet, for every user and in every container of
    the host's network, and is released when the process ends, however it ends.

    Raises
    ------
    InterfaceError
        No domain is free.

    """
    own = os.environ.get('ROS_DOMAIN_ID', '').strip()
    for _ in DOMAINS:
        domain = DOMAINS[next(_turns) % len(DOMAINS)]
        if own.isdecimal() and domain == int(own):
            continue
        lock = _bound(_FIRST_PORT + domain * _PORTS + _LOCK)
        if lock is None:
            continue
        with closing(lock):
            if not used_ports(domain):
                yield domain
                return
    raise InterfaceError(
        expected=f'a free ROS domain among {DOMAINS.start} to {DOMAINS.stop - 1}',
        found='participants or other runs in all of them',
        remedy='end some of them',
    )


def used_ports(domain: int) -> list[int]:
    """Return the UDP ports of a domain that participants on this host have bound; that of its lock is not among them.

    This finds every participant that speaks RTPS over UDP by its default ports (Fast DDS, Cyclone DDS, Connext) at
    once, where discovery takes up to some seconds.
    """
    first = _FIRST_PORT + domain * _PORTS
    found = []
    for port in range(first, first + _LOCK):
        probe = _bound(port)
        if probe is None:
            found.append(port)
        else:
            probe.close()
    return found


def domain_settings(domain: int) -> Mapping[str, str | None]:
    """Return the variables of a process that takes part in a private domain, by name; None: it is not set."""
    settings: dict[str, str | None] = {
        **dict.fromkeys(DISCOVERY_VARIABLES),
        'ROS_DOMAIN_ID': str(domain),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }
    if os.environ.get('ROS_DISTRO') == 'humble':  # the last distribution that does not know the range
        settings['ROS_LOCALHOST_ONLY'] = '1'
    return settings


def domain_environment(domain: int) -> dict[str, str]:
    """Return the whole environment of a process that takes part in a private domain: this one's, but for that."""
    environment = {'AMENT_PREFIX_PATH': sys.prefix, **os.environ}
    _set(environment, domain_settings(domain))
    return environment


@contextmanager
def in_domain(domain: int) -> Iterator[None]:
    """Let this process, and those that it starts meanwhile, take part in a private domain: changes `os.environ`."""
    settings = domain_settings(domain)
    before = {name: os.environ.get(name) for name in settings}
    _set(os.environ, settings)
    try:
        yield
    finally:
        _set(os.environ, before)


def _set(environment: MutableMapping[str, str], settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value


def _bound(port: int) -> socket.socket | None:
    """Return a socket that is bound to a UDP port of this host, or None where another has it."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.bind(('127.0.0.1', port))
    except OSError as error:
        probe.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return probe
