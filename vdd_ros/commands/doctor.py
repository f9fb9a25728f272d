"""Check of an installation: present and missing parts, with remedies."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rich.markup import escape

from vdd_ros.commands.echo import out
from vdd_ros.common.domain import DISCOVERY_VARIABLES, domain_environment, private_domain, used_ports
from vdd_ros.common.errors import VddError

Purpose = Literal['library', 'training', 'simulation', 'robot']
"""`library`: bags, and policies that act. `training`: torch. `simulation`: MuJoCo. `robot`: the nodes, over ROS."""

_PURPOSES: dict[str, tuple[Purpose, ...]] = {
    '': ('library', 'training', 'simulation', 'robot'),
    'train': ('training',),
    'sim': ('simulation', 'robot'),
    'report': (),
    'video': (),
    'datasets': (),
}
"""Purposes of the extras; all other extras are optional."""
_REQUIREMENT = re.compile(r'(?P<name>[\w.-]+)(\[[^\]]*\])?(?P<versions>[^;]*)(;(?P<marker>.*))?')
_EXTRA = re.compile(r'extra\s*==\s*[\'"]([\w-]+)[\'"]')
_STYLES = {'ok': 'green', 'note': 'yellow', 'missing': 'bold red'}
_DISK = 5e9
_SHARED_MEMORY = 256e6
_RECEIVE_BUFFER = 2_000_000
_PATIENCE = 30.0


@dataclass(frozen=True)
class Finding:
    """One line of the result: `ok`; `note` for possible improvements; `missing`, with the affected purposes."""

    level: Literal['ok', 'note', 'missing']
    subject: str
    text: str
    remedy: str = ''
    purposes: tuple[Purpose, ...] = ()


@dataclass(frozen=True)
class Doctor:
    """Check the installation: packages, GPU, EGL, real-time priority, ROS, DDS, domain and disk.

    Prints one line for each check, with the remedy if something is missing. Exits with 1 if a purpose lacks a
    requirement.
    """

    purpose: tuple[Purpose, ...] = ('library', 'training', 'simulation', 'robot')
    """Purpose of this computer. Requirements of other purposes are only notes."""

    def run(self) -> int:
        """Run the command."""
        failed = False
        for finding in examine():
            lacks = finding.level == 'missing' and bool(set(finding.purposes) & set(self.purpose))
            level = 'note' if finding.level == 'missing' and not lacks else finding.level
            failed = failed or lacks
            remedy = f'; {finding.remedy}' if finding.remedy else ''
            out.print(
                f'[{_STYLES[level]}]{level:8}[/]{escape(f"{finding.subject}: {finding.text}{remedy}")}',
                highlight=False,
                soft_wrap=True,
            )
        return 1 if failed else 0


def examine() -> Iterator[Finding]:
    """Yield the findings, one for each subject, the quick ones first."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _disk,
        _real_time,
        _domain,
        _network,
        _gpu,
        _rendering,
        _ros,
    )
    for check in checks:
        yield from check()


def _python() -> Iterator[Finding]:
    where = f'{platform.python_version()} in {sys.prefix}, {os.cpu_count()} cores'
    yield Finding('ok', 'Python', where)


def _packages() -> Iterator[Finding]:
    """Compare the installed packages with the requirements of each extra."""
    try:
        lines = metadata.requires('vdd_ros') or []
    except metadata.PackageNotFoundError:
        yield Finding(
            'note', 'vdd_ros', 'runs from its sources, requirements not known', 'pip install the package, or its wheel'
        )
        return
    groups: dict[str, list[tuple[str, str]]] = {name: [] for name in _PURPOSES}
    for line in lines:
        match = _REQUIREMENT.fullmatch(line)
        if match is None:
            continue
        extra = _EXTRA.search(match['marker'] or '')
        group = extra[1] if extra else ''
        if group in groups:
            groups[group].append((match['name'], match['versions'].strip(' ()')))
    groups['train'] = [item for item in groups['train'] if item not in groups['sim']]
    groups['sim'] = [item for item in groups['sim'] if item not in groups['report']]
    for group, requirements in groups.items():
        found, lacking = [], []
        for name, versions in requirements:
            installed = _installed(name)
            if installed is None or not suffices(installed, versions):
                lacking.append(f'{name}{versions}' + (f' (found {installed})' if installed else ''))
            else:
                found.append(f'{name} {installed}')
        subject = f'packages of {group}' if group else 'packages'
        if lacking:
            purposes = _PURPOSES[group]
            remedy = f"python -m pip install '.{f'[{group}]' if group else ''}'"
            yield Finding('missing' if purposes else 'note', subject, f'no {", ".join(lacking)}', remedy, purposes)
        else:
            yield Finding('ok', subject, ', '.join(found))


def suffices(version: str, specifiers: str) -> bool:
    """Return whether a version meets specifiers such as ``>=1.2,<2``."""
    comparisons: dict[str, Callable[[tuple, tuple], bool]] = {
        '>=': lambda a, b: a >= b,
        '<=': lambda a, b: a <= b,
        '==': lambda a, b: a == b,
        '!=': lambda a, b: a != b,
        '>': lambda a, b: a > b,
        '<': lambda a, b: a < b,
    }
    for specifier in filter(None, (part.strip() for part in specifiers.split(','))):
        match = re.fullmatch(r'(>=|<=|==|!=|>|<)\s*([\d.]+).*', specifier)
        if match is None:
            continue
        have, want = _numbers(version), _numbers(match[2])
        length = max(len(have), len(want))
        if not comparisons[match[1]](*((*part, *[0] * (length - len(part))) for part in (have, want))):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r'\d+(\.\d+)*', version)
    return () if match is None else tuple(int(part) for part in match[0].split('.'))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f'{free / 1e9:.1f} GB free at {Path.cwd()}'
    if free < _DISK:
        yield Finding('note', 'disk', text, 'recordings with cameras need more: about 1 GB for ten minutes')
    else:
        yield Finding('ok', 'disk', text)


def _real_time() -> Iterator[Finding]:
    """Request the real-time scheduler in a short-lived thread."""
    from vdd_ros.nodes.pacing import prioritise

    refused: list[str] = []
    thread = threading.Thread(target=lambda: refused.append(prioritise(1)))
    thread.start()
    thread.join()
    file = Path('/sys/kernel/realtime')
    kernel = 'a real-time kernel' if file.is_file() and file.read_text().strip() == '1' else 'an ordinary kernel'
    if refused[0]:
        yield Finding(
            'note',
            'real-time priority',
            f'refused ({refused[0]}), on {kernel}',
            'add "@realtime - rtprio 99" to /etc/security/limits.conf and yourself to that group',
        )
    else:
        yield Finding('ok', 'real-time priority', f'granted, on {kernel}')


def _domain() -> Iterator[Finding]:
    """Check the ROS domain of the environment, without joining it."""
    text = os.environ.get('ROS_DOMAIN_ID', '').strip() or '0'
    if not text.isdecimal() or int(text) > 232:
        yield Finding(
            'missing', 'ROS domain', f'ROS_DOMAIN_ID is {text!r}', 'set it to a number from 0 to 232', ('robot',)
        )
        return
    ports = used_ports(int(text))
    there = f'{len(ports)} UDP ports in use by participants on this host' if ports else 'no participants on this host'
    leading = [f'{name}={os.environ[name]}' for name in DISCOVERY_VARIABLES if os.environ.get(name)]
    yield Finding('ok', 'ROS domain', f'{text}, {there}{"".join(f", {item}" for item in leading)}')


def _network() -> Iterator[Finding]:
    """Check system settings that Fast DDS and large messages need."""
    shared = Path('/dev/shm')
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        text = f'{size / 1e6:.0f} MB at {shared}'
        if size < _SHARED_MEMORY:
            yield Finding('note', 'shared memory', text, 'give a container more: docker run --shm-size=1g')
        else:
            yield Finding('ok', 'shared memory', text)
    file = Path('/proc/sys/net/core/rmem_max')
    if file.is_file():
        size = int(file.read_text())
        text = f'at most {size / 1e6:.1f} MB'
        if size < _RECEIVE_BUFFER:
            remedy = f'for images over a network: sysctl -w net.core.rmem_max={_RECEIVE_BUFFER}'
            yield Finding('note', 'receive buffers', text, remedy)
        else:
            yield Finding('ok', 'receive buffers', text)


def _gpu() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError):
        return  # reported among the packages
    if torch.cuda.is_available():
        size = torch.cuda.get_device_properties(0).total_memory
        yield Finding('ok', 'GPU', f'{torch.cuda.get_device_name(0)}, {size / 1e9:.0f} GB, torch {torch.__version__}')
        return
    driver = shutil.which('nvidia-smi')
    if driver:
        text = f'a driver, but torch {torch.__version__} (CUDA {torch.version.cuda or "none"}) sees none'
        yield Finding('note', 'GPU', text, 'install torch with CUDA')
    else:
        yield Finding('ok', 'GPU', 'none; networks are trained on the processor')


def _rendering() -> Iterator[Finding]:
    try:
        from vdd_ros.sim.camera import check_rendering
    except (ImportError, OSError):
        return  # reported among the packages
    try:
        check_rendering()
    except VddError as error:
        yield Finding('note', 'rendering', error.found, error.remedy)
    else:
        yield Finding('ok', 'rendering', 'EGL draws without a display' if sys.platform == 'linux' else 'works')


def _ros() -> Iterator[Finding]:
    """Start a participant in a private domain, to test rclpy and its middleware."""
    wheels = 'source /opt/ros/$ROS_DISTRO/setup.bash, or install the wheels: pip install .[ros]'
    command = [sys.executable, '-m', 'vdd_ros.entry', 'domain_check']
    name = os.environ.get('RMW_IMPLEMENTATION') or 'the default middleware'
    try:
        with private_domain() as domain:
            done = subprocess.run(
                command, env=domain_environment(domain), capture_output=True, text=True, timeout=_PATIENCE
            )
    except VddError as error:
        yield Finding('missing', 'DDS', error.found, error.remedy, ('simulation', 'robot'))
        return
    except subprocess.TimeoutExpired:
        text = f'{name} does not start within {_PATIENCE:.0f} s'
        yield Finding('missing', 'DDS', text, 'check the network interfaces, and the profiles of DDS', ('robot',))
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['no output'])[-1]
        explained = last.removeprefix('error: ')
        remedy = '' if last.startswith('error: ') else wheels
        yield Finding('missing', 'ROS', explained, remedy, ('simulation', 'robot'))
        return
    distribution = os.environ.get('ROS_DISTRO') or _wheels()
    yield Finding('ok', 'ROS', f'{distribution}; {name} works')


def _wheels() -> str:
    names = {item.metadata['Name'] or '' for item in metadata.distributions()}
    found = sorted({name.split('-')[1] for name in names if re.fullmatch(r'ros-\w+-rclpy', name)})
    return f'{", ".join(found)} as wheels' if found else 'of unknown distribution'
