"""What the package installs, by colcon and by pip."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from catkin_pkg.package import parse_package

ROOT = Path(__file__).parents[2]
IGNORED = shutil.ignore_patterns(
    '.git', '.venv', 'build', 'install', 'log', 'runs', '*.egg-info', '__pycache__', '.*_cache', '.hypothesis'
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
    sources = [*(ROOT / 'vdd_ros' / 'nodes').glob('*.py'), *(ROOT / 'launch').glob('*.py')]
    words = {word for path in sources for word in imports(path)}
    assert {word for word in words if word.endswith(('_msgs', '_srvs', 'rclpy', 'launch', 'launch_ros'))} <= declared


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a file imports."""
    lines = path.read_text(encoding='utf-8').splitlines()
    return {line.split()[1].split('.')[0] for line in lines if line.startswith(('import ', 'from '))}

