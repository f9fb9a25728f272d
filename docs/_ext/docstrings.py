"""Docstrings in numpy style as reStructuredText.

Unlike `sphinx.ext.napoleon`, a colon in the docstring of an attribute ends no type, and a `*` outside of code is plain.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, NumpyDocstring

_CONFIG = Config(napoleon_google_docstring=False, napoleon_use_rtype=False)
_CODE = re.compile(r'(``.+?``|`[^`]+`)', flags=re.DOTALL)


def convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place."""
    parts = _CODE.split('\n'.join(lines))
    parts[::2] = [re.sub(r'(?<!\\)([*|_])(?=\w)(?<!\w.)', r'\\\1', part) for part in parts[::2]]
    text = ''.join(parts)
    if what in ('module', 'class', 'exception', 'function', 'method'):
        lines[:] = NumpyDocstring(text, _CONFIG, app, what, name, obj, options).lines()
    else:
        lines[:] = text.split('\n')


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the conversion."""
    app.connect('autodoc-process-docstring', convert)
    return {'version': '1', 'parallel_read_safe': True}
