"""Configuration of the documentation site: `make docs`."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / '_ext')]

project = 'vdd_ros'
author = 'vdd_ros maintainers'
project_copyright = '2026, vdd_ros maintainers'
release = re.search(r"version='([^']*)'", (ROOT / 'setup.py').read_text(encoding='utf-8')).group(1)

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx_copybutton',
    'docstrings',
    'tables',
]
myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3

html_theme = 'furo'
html_title = 'vdd_ros'
exclude_patterns = ['_ext']

# Docstrings name code in single backticks.
default_role = 'code'
autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_default_options = {'members': True, 'undoc-members': False, 'show-inheritance': True}
# Unqualified names in annotations may have several targets.
suppress_warnings = ['ref.python']
# The site can be built without these packages, as on a documentation server.
autodoc_mock_imports = [
    name
    for name in (
        'torch',
        'jaxtyping',
        'onnx',
        'mujoco',
        'daqp',
        'rclpy',
        'rcl_interfaces',
        'pyarrow',
        'av',
        'imageio_ffmpeg',
    )
    if importlib.util.find_spec(name) is None
]
