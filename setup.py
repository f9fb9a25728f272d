"""Serves `colcon build` in a ROS installation and `pip install` on a machine without one."""

import sys
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'vdd_ros'
NODES = (
    'demonstrator',
    'distillation_node',
    'mujoco_bridge',
    'policy_node',
    'recorder',
    'replay',
    'validator',
    'viewer',
)
ROOT = Path(__file__).resolve().parent


def shipped(folder: str, pattern: str) -> tuple[str, list[str]]:
    """Return the data_files entry that puts the files of a folder under share/."""
    return f'share/{PACKAGE}/{folder}', sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern))


def executable_shims() -> list[tuple[str, list[str]]]:
    """Write the executables that `ros2 run` and launch look for under lib/, where pip itself puts no scripts.

    colcon follows setup.cfg and puts the real ones there, so only a wheel needs them.
    """
    if 'bdist_wheel' not in sys.argv:
        return []
    folder = ROOT / 'build' / 'shims'
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('vdd', *NODES):
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/../../bin/{name}" "$@"\n', encoding='utf-8')
        shim.chmod(0o755)
    return [(f'lib/{PACKAGE}', [f'build/shims/{name}' for name in ('vdd', *NODES)])]


# Exact, because these wheels are repackaged releases that name no publisher; a person with a ROS installation never
# asks for this extra and never gets them.
ROS_WHEELS = [
    'ros-kilted-rclpy==9.1.2',
    'ros-kilted-rmw-fastrtps-cpp==9.3.3',
    *(
        f'ros-kilted-{name}==5.5.1'
        for name in (
            'diagnostic-msgs',
            'geometry-msgs',
            'sensor-msgs',
            'std-msgs',
            'std-srvs',
            'trajectory-msgs',
            'visualization-msgs',
        )
    ),
    *(f'ros-kilted-{name}==2.3.0' for name in ('lifecycle-msgs', 'rosgraph-msgs')),
]

setup(
    name=PACKAGE,
    version='0.1.0',
    description='From rosbag demonstrations to a mixture of experts that moves an arm',
    maintainer='vdd_ros maintainers',
    maintainer_email='vdd_ros@example.org',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={
        PACKAGE: [
            *('sim/models/*.xml', 'sim/tasks/*/*.xml', 'sim/tasks/*/*.yaml'),
            *('validation/*.html', 'inspection/*.html'),
        ]
    },
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        shipped('launch', '*.launch.py'),
        shipped('config', '*.yaml'),
        shipped('config/contracts', '*.yaml'),
        shipped('config/robots', '*.yaml'),
        shipped('config/scenes', '*.yaml'),
        *executable_shims(),
    ],
    zip_safe=False,
    install_requires=[
        'lz4>=4,<5',
        'mcap>=1.5,<2',
        'numpy>=1.24,<3',
        'onnxruntime>=1.17,<2',
        'pillow>=10,<14',
        'pydantic>=2.5,<3',
        'pyyaml>=6,<7',
        'rich>=13,<16',
        'rosbags>=0.10.9,<0.12',
        'safetensors>=0.4,<1',
        'tyro>=0.9,<2',
        'zstandard>=0.20,<1',
    ],
    extras_require={
        'ros': ROS_WHEELS,
        'train': [
            'jaxtyping>=0.2.25,<1',
            'jinja2>=3.1,<4',
            'matplotlib>=3.8,<4',
            'onnx>=1.16,<2',
            'onnxscript>=0.1,<1',
            'tensorboard>=2.16,<3',
            'torch>=2.4,<2.14',
        ],
        'datasets': ['imageio-ffmpeg>=0.5,<1', 'pyarrow>=17,<27'],
        'pusht': ['gym-pusht>=0.1.8,<0.2'],
        'sim': ['daqp>=0.6,<1', 'mujoco>=3.3.6,<5'],
        'video': ['imageio-ffmpeg>=0.5,<1'],
        'test': [
            'colcon-common-extensions>=0.3,<1',
            'hypothesis>=6.100,<7',
            'imageio-ffmpeg>=0.5,<1',
            'pyarrow>=17,<27',
            'pytest>=8,<10',
        ],
    },
    entry_points={
        'console_scripts': [
            'vdd = vdd_ros.cli:main',
            *(f'{name} = vdd_ros.nodes.{name}:main' for name in NODES),
        ],
    },
)
