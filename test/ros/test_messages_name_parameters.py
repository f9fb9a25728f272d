"""What messages say of parameters: each that is named exists."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from vdd_ros.entry import EXECUTABLES

ROOT = Path(__file__).parents[2]
NODES = sorted(EXECUTABLES.keys() - {'vdd', 'domain_check'})
KNOWN = {row.name for name in NODES for row in importlib.import_module(EXECUTABLES[name]).PARAMETERS}
MENTIONS = re.compile(r'-p (\w+):=|\bthe parameters? `?(\w+)|\bparameter `(\w+)`')


def texts(path: Path):
    """Yield the texts of a file, with a gap where a value is put in; docstrings of functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(part.value if isinstance(part, ast.Constant) else '{}' for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize('folder', ['vdd_ros/nodes', 'vdd_ros/control', 'vdd_ros/validation', 'vdd_ros/commands'])
def test_every_parameter_that_a_message_names_is_one_of_a_node(folder):
    for path in (ROOT / folder).rglob('*.py'):
        for text in texts(path):
            for match in MENTIONS.finditer(text):
                name = next(filter(None, match.groups()))
                assert name in KNOWN or name in WORDS, f'{path}: {match[0]}'


WORDS = {'of', 'by', 'that', 'NAME', 'for', 'are', 'and', 'to', 'as', 'in', 'is', 'it', 'were', 'a', 'or', 'set', 'say'}
"""What may follow "the parameters" in a sentence; no parameter is called so."""


def test_the_words_that_are_passed_over_hide_no_parameter():
    assert not WORDS & KNOWN
    assert MENTIONS.findall('set the parameter velocity_limits') and MENTIONS.findall('set -p speed:=2')
