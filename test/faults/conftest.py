"""The graphs, arms and students of test/ros, for faults."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_ROS = Path(__file__).parents[1] / 'ros'
sys.path.insert(0, str(_ROS))
_specification = importlib.util.spec_from_file_location('ros_fixtures', _ROS / 'conftest.py')
_fixtures = importlib.util.module_from_spec(_specification)
sys.modules['ros_fixtures'] = _fixtures
_specification.loader.exec_module(_fixtures)
graph = _fixtures.graph


@pytest.fixture(scope='module', params=('policy_node', 'replay'))
def mover(request: pytest.FixtureRequest) -> str:
    """Name the node that moves the arm: most faults apply to both."""
    return request.param
