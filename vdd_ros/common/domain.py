"""A private ROS domain for one simulation, separate from other runs, robots and hosts."""

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
"""Private domains. The ports of domains above 101 overlap with ephemeral ports; 0 is the default domain of all
robots."""

_FIRST_PORT, _PORTS = 7400, 250
"""Ports of a domain by the RTPS standard: `_PORTS` per domain, from `_FIRST_PORT` on."""
_LOCK = _PORTS - 1
"""Port of a domain that its holder binds: the last one, of the 120th participant on a host."""
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
"""Variables that extend discovery beyond this host, or select another domain."""

_turns = itertools.count(random.SystemRandom().randrange(len(DOMAINS)))


@contextmanager
def private_domain() -> Iterator[int]:
    """Reserve a domain without participants; no other run on this host uses it at the same time.

    The domain differs from that of the environment (`ROS_DOMAIN_ID`) and from those recently used by this process. A
    UDP port of the domain serves as the lock. The lock is therefore valid for all users and containers in the network
    of the host, and is released when the process ends for any reason.

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
        remedy='stop some of them',
    )


def used_ports(domain: int) -> list[int]:
    """Return the UDP ports of a domain bound by participants on this host, without the lock port of the domain.

    The ports show every participant that uses RTPS over UDP with default ports (Fast DDS, Cyclone DDS, Connext)
    immediately, while discovery takes seconds.
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
    """Return the environment variables of a process in a private domain; None: not set."""
    settings: dict[str, str | None] = {
        **dict.fromkeys(DISCOVERY_VARIABLES),
        'ROS_DOMAIN_ID': str(domain),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }
    if os.environ.get('ROS_DISTRO') == 'humble':  # the last distribution without the discovery range
        settings['ROS_LOCALHOST_ONLY'] = '1'
    return settings


def domain_environment(domain: int) -> dict[str, str]:
    """Return the complete environment of a process in a private domain."""
    environment = {'AMENT_PREFIX_PATH': sys.prefix, **os.environ}
    _set(environment, domain_settings(domain))
    return environment


@contextmanager
def in_domain(domain: int) -> Iterator[None]:
    """Put this process, and the processes that it starts inside the context, in a private domain, by `os.environ`."""
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
    """Return a socket bound to a UDP port of this host, or None if the port is in use."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        probe.bind(('127.0.0.1', port))
    except OSError as error:
        probe.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return probe
