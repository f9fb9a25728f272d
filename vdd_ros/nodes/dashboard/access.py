"""Access to the dashboard: who may open the page, and who may use its buttons."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
from pathlib import Path

from vdd_ros.common.errors import ConfigurationError

_LEAST = 16
"""Minimum length of a token [characters]."""


def load_token(path: str) -> str:
    """Read the token for writes from a file; a file that does not exist is created with a random token.

    Raises
    ------
    ConfigurationError
        The file cannot be read or created, other users can read it, or the token is too short.

    """
    file = Path(path)
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            # The mode is that of the creation: no other user can open the file before it is narrowed.
            with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), 'w') as output:
                output.write(f'{secrets.token_urlsafe(24)}\n')
        text, mode = file.read_text(encoding='utf-8').strip(), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            expected=f'a file with a token at {file}',
            found=' '.join(str(error).split()),
            remedy='choose another path; a file that does not exist is created',
        ) from error
    if mode & 0o077:
        raise ConfigurationError(
            expected=f'a token that only its owner can read in {file}',
            found=f'mode {mode & 0o777:o}',
            remedy=f'chmod 600 {file}',
        )
    if len(text) < _LEAST or not text.isascii() or not text.isprintable() or ' ' in text:
        raise ConfigurationError(
            expected=f'a token of at least {_LEAST} printable characters in {file}',
            found=f'{len(text)} characters',
            remedy='remove the file; a new token is written',
        )
    return text


def permits(token: str, header: str) -> bool:
    """Return whether an Authorization header contains the token; with an empty token, nothing is permitted."""
    kind, _, given = header.partition(' ')
    return bool(token) and kind.lower() == 'bearer' and hmac.compare_digest(given.strip().encode(), token.encode())


def is_own_name(host: str, bound: str) -> bool:
    """Return whether a Host header names this server.

    Other host names that resolve to this address are refused. Otherwise, a page of another site could read the
    dashboard through the browser of a person on this machine (DNS rebinding). Numerical addresses are accepted, since
    they cannot be redirected by name resolution.
    """
    name = host.rpartition(':')[0] if not host.endswith(']') and ':' in host else host
    name = name.strip('[]').lower()
    return name in ('localhost', bound.lower(), socket.gethostname().lower()) or is_address(name)


def is_address(host: str) -> bool:
    """Return whether a host is given as a numerical address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host: ``localhost``, or an address of the loopback range."""
    return host == 'localhost' or (is_address(host) and ipaddress.ip_address(host).is_loopback)
