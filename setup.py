"""Build configuration for `colcon build` in a ROS installation, and for `pip install` without one."""

import runpy
import sys
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'vdd_ros'
ROOT = Path(__file__).resolve().parent
EXECUTABLES = runpy.run_path(str(ROOT / PACKAGE / 'entry.py'))['EXECUTABLES']
EXTRAS = (
    *('dashboard', 'datasets', 'distributed', 'docs', 'lint', 'pusht', 'ray', 'report', 'sim', 'sweep', 'test'),
    *('train', 'video'),
)


def requirements(name: str) -> list[str]:
    """Return the requirements of a file in requirements/ and of included files."""
    found = []
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines():
        if line.startswith('-r '):
            found += requirements(line[3:].strip().removesuffix('.txt'))
        elif line and not line.startswith('#'):
            found.append(line)
    return found


def shipped(folder: str, pattern: str) -> tuple[str, list[str]]:
    """Return the data_files entry that puts the files of a folder under share/."""
    return f'share/{PACKAGE}/{folder}', sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern))


def executables() -> list[tuple[str, list[str]]]:
    """Return the data_files entries of executables in places where neither pip nor colcon installs them.

    pip puts scripts into bin/ only, `ros2 run` and launch look under lib/: a wheel gets shims there. colcon follows
    setup.cfg and puts scripts under lib/ only, a shell looks in bin/: an installation by colcon gets `vdd` there.
    """
    if 'bdist_wheel' not in sys.argv:
        return [('bin', ['resource/vdd'])] if {'install', 'develop'} & set(sys.argv) else []
    folder = ROOT / 'build' / 'shims'
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXECUTABLES:
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/../../bin/{name}" "$@"\n', encoding='utf-8')
        shim.chmod(0o755)
    return [(f'lib/{PACKAGE}', [f'build/shims/{name}' for name in EXECUTABLES])]


setup(
    name=PACKAGE,
    version='0.2.0',
    description='From rosbag demonstrations to a mixture-of-experts policy for an arm',
    maintainer='vdd_ros maintainers',
    maintainer_email='vdd_ros@example.org',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={
        PACKAGE: [
            'py.typed',
            *('sim/models/*.xml', 'sim/tasks/*/*.xml', 'sim/tasks/*/*.yaml'),
            *('validation/*.html', 'validation/*.css', 'data/quality/pages/*.html'),
            'nodes/dashboard/page/*',
        ]
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        shipped('launch', '*.launch.py'),
        shipped('config', '*.yaml'),
        shipped('config', '*.rviz'),
        shipped('config/contracts', '*.yaml'),
        shipped('config/robots', '*.yaml'),
        shipped('config/scenes', '*.yaml'),
        *executables(),
    ],
    zip_safe=False,
    install_requires=requirements('base'),
    extras_require={
        **{name: requirements(name) for name in EXTRAS},
        'ros': requirements('ros-kilted'),
        'ros-jazzy': requirements('ros-jazzy'),
    },
    entry_points={'console_scripts': [f'{name} = {PACKAGE}.entry:{name}' for name in EXECUTABLES]},
)
