"""What the package installs, by colcon and by pip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from catkin_pkg.package import parse_package
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vdd_ros.entry import EXECUTABLES, explain
from vdd_ros.sim.frames import WORLD_FRAME

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns(
    '.git', '.venv*', 'build', 'install', 'log', 'runs', '*.egg-info', '__pycache__', '.*_cache', '.hypothesis'
)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the tree."""
    folder = tmp_path_factory.mktemp('wheel')
    shutil.copytree(ROOT, folder / 'source', ignore=IGNORED)
    command = [sys.executable, 'setup.py', '--quiet', 'bdist_wheel', '--dist-dir', str(folder)]
    subprocess.run(command, cwd=folder / 'source', check=True, capture_output=True, timeout=120)
    (path,) = folder.glob('*.whl')
    return zipfile.ZipFile(path)


def test_a_wheel_puts_an_executable_where_ros2_run_looks_for_every_script(wheel):
    (entries,) = [name for name in wheel.namelist() if name.endswith('entry_points.txt')]
    scripts = {line.split(' = ')[0] for line in wheel.read(entries).decode().splitlines() if ' = ' in line}
    shims = {Path(info.filename).name: info for info in wheel.infolist() if '/data/lib/vdd_ros/' in info.filename}
    assert set(shims) == scripts
    for name, info in shims.items():
        assert (info.external_attr >> 16) & 0o111 == 0o111
        assert f'/../../bin/{name}' in wheel.read(info).decode()


def test_a_wheel_holds_every_launch_file_contract_setting_and_model(wheel):
    names = wheel.namelist()
    shared = [*ROOT.glob('launch/*.launch.py'), *ROOT.glob('config/**/*.yaml'), ROOT / 'package.xml']
    for path in shared:
        assert any(name.endswith(f'/data/share/vdd_ros/{path.relative_to(ROOT)}') for name in names), path
    for path in [path for path in (ROOT / 'vdd_ros').rglob('*') if path.suffix in ('.xml', '.html', '.yaml')]:
        assert str(path.relative_to(ROOT)) in names


def test_the_package_manifest_is_valid_and_agrees_with_the_wheel(wheel):
    package = parse_package(str(ROOT / 'package.xml'))
    package.validate()
    assert package.get_build_type() == 'ament_python'
    (metadata,) = [name for name in wheel.namelist() if name.endswith('/METADATA')]
    assert f'Version: {package.version}' in wheel.read(metadata).decode()


def test_every_ros_package_that_is_imported_is_a_dependency():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    declared = {element.text for element in manifest.findall('exec_depend')}
    sources = [*(ROOT / 'vdd_ros' / 'nodes').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]
    words = {word for path in sources for word in imports(path)}
    assert {
        word for word in words if word.endswith(('_msgs', '_srvs', '_msgs_py', 'rclpy', 'launch', 'launch_ros'))
    } <= declared


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a file imports."""
    lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
    return {line.split()[1].split('.')[0] for line in lines if line.startswith(('import ', 'from '))}


def documented_steps() -> list[str]:
    """Return the lines of the block of docs/installation.md that installs the package into a workspace."""
    text = (ROOT / 'docs' / 'installation.md').read_text(encoding='utf-8')
    return text.partition('<!-- the steps')[2].partition('```bash\n')[2].partition('```')[0].splitlines()


def test_the_container_follows_the_documented_steps_in_their_order():
    recipe = (ROOT / 'docker' / 'Dockerfile').read_text(encoding='utf-8')
    places = [recipe.index(step) for step in documented_steps()]
    assert len(places) >= 7 and places == sorted(places)


def test_every_requirement_file_is_an_extra_and_every_documented_file_exists():
    files = {path.stem for path in (ROOT / 'requirements').glob('*.txt')}
    extras = set(metadata.metadata('vdd_ros').get_all('Provides-Extra'))
    assert files - {'base', 'numpy1', 'ros-kilted'} <= extras
    for step in documented_steps():
        assert set(re.findall(r'requirements/([\w-]+)\.txt', step)) <= files


INSPECT = (
    'vdd_ros.commands.cli vdd_ros.data.quality.inspection vdd_ros.data.quality.pages.text vdd_ros.data.demonstrations'
)
PROMISES = {
    (): f'{INSPECT} vdd_ros.nodes.recorder.recorder',
    ('report',): 'vdd_ros.data.quality.pages.page',
    ('sim',): ' '.join(
        EXECUTABLES[node] for node in ('policy_node', 'replay', 'mujoco_bridge', 'viewer', 'demonstrator')
    ),
    ('train',): ' '.join(
        f'vdd_ros.{n}' for n in ('commands.pipeline', 'learning.export', 'nodes.distillation_node', 'nodes.validator')
    ),
    ('sim', 'video'): 'vdd_ros.sim.film imageio_ffmpeg',
    ('datasets',): 'vdd_ros.data.lerobot.lerobot vdd_ros.data.lerobot.lerobot_import',
}
IMPORT_WITHOUT = """
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in sys.argv[1].split():
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Absent())
for name in sys.argv[2].split():
    importlib.import_module(name)
"""


def closure(extras: tuple[str, ...]) -> set[str]:
    """Return the distributions that the package installs with some extras, and those of ROS."""
    ros = [each.metadata['Name'] for each in metadata.distributions() if each.metadata['Name'].startswith('ros-')]
    wanted = [('vdd_ros', extras), *((name, ()) for name in ros)]
    seen = set()
    while wanted:
        name, chosen = wanted.pop()
        if (canonicalize_name(name), chosen) in seen:
            continue
        seen.add((canonicalize_name(name), chosen))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in lines:
            requirement = Requirement(line)
            if not requirement.marker or any(
                requirement.marker.evaluate({'extra': extra}) for extra in chosen or ('',)
            ):
                wanted.append((requirement.name, tuple(sorted(requirement.extras))))
    return {name for name, _ in seen}


@pytest.mark.parametrize('extras', PROMISES, ids='+'.join)
def test_an_extra_suffices_for_what_it_promises(extras):
    requested = {canonicalize_name(Requirement(line).name) for line in metadata.requires('vdd_ros')}
    left_out = requested - closure(extras)
    absent = [
        module
        for module, names in metadata.packages_distributions().items()
        if {canonicalize_name(name) for name in names} <= left_out
    ]
    command = [sys.executable, '-c', IMPORT_WITHOUT, ' '.join(absent), PROMISES[extras]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


ABSENT = 'import sys; sys.modules[sys.argv.pop(1)] = None; from vdd_ros.entry import main; sys.exit(main())'


@pytest.mark.parametrize(
    ('executable', 'module', 'reported'),
    [
        ('vdd', 'numpy', 'numpy<3,>=1.24'),
        ('recorder', 'yaml', 'pyyaml<7,>=6'),
        *((name, 'pydantic', 'pydantic<3,>=2.5') for name in EXECUTABLES if name not in ('vdd', 'domain_check')),
    ],
)
def test_a_missing_package_ends_an_executable_with_one_line_that_has_the_remedy(executable, module, reported):
    command = [sys.executable, '-c', ABSENT, module, executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count('\n'), done.stdout) == (2, 1, '')
    assert f'expected the Python package {reported}; found none' in done.stderr
    assert f"-m pip install '{reported}'" in done.stderr


def test_a_node_without_ros_names_the_setup_file_to_source():
    command = [sys.executable, '-c', ABSENT, 'rclpy', 'recorder']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count('\n')) == (2, 1)
    assert 'expected the ROS package rclpy' in done.stderr and 'setup.bash' in done.stderr


def test_a_package_that_is_too_old_is_named_with_its_version():
    error = ImportError("cannot import name 'ConfigDict' from 'pydantic'", name='pydantic')
    line = explain(error)
    assert line.startswith('expected the Python package pydantic<3,>=2.5; found ') and 'found none' not in line


def test_a_fault_of_the_package_itself_is_not_taken_for_a_missing_package():
    assert explain(ModuleNotFoundError(name='vdd_ros.gone')) == ''
    assert explain(ImportError("cannot import name 'x' from 'json'", name='json')) == ''


def test_colcon_puts_vdd_on_the_path():
    code = 'import sys, runpy, setuptools; setuptools.setup = lambda **given: print(given["data_files"]); '
    code += 'sys.argv = ["setup.py", sys.argv[1]]; runpy.run_path("setup.py")'
    for command in ('install', 'develop'):
        done = subprocess.run(
            [sys.executable, '-c', code, command], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert "('bin', ['resource/vdd'])" in done.stdout, done.stderr
    assert os.access(ROOT / 'resource' / 'vdd', os.X_OK)


def test_the_rviz_configuration_shows_topics_of_the_package_in_the_frame_of_the_markers():
    manager = yaml.safe_load((ROOT / 'config' / 'vdd.rviz').read_text(encoding='utf-8'))['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == WORLD_FRAME
    shown = {display['Topic']['Value'] for display in manager['Displays'] if 'Topic' in display}
    assert {'/policy_node/expert_paths', '/eye/image_raw', '/eye/points'} <= shown
