"""Write a quality report as one HTML file with embedded pictures."""

from __future__ import annotations

import base64
import io
import re
from datetime import datetime, timezone
from pathlib import Path

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image as Pillow

from vdd_ros.common.errors import OutputError, remedied
from vdd_ros.common.output import write_whole
from vdd_ros.common.version import __version__
from vdd_ros.data.quality.inspection import Inspection
from vdd_ros.data.quality.pages import pictures

_EPOCH = 1_000_000_000_000_000_000
"""Smaller stamps are simulated time instead of wall time [ns]."""


def write_page(inspection: Inspection, target: Path) -> None:
    """Write the report atomically.

    Raises
    ------
    OutputError
        The target cannot be written.

    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters['code'] = _with_code
    begin = inspection.span[0]
    began = f'{datetime.fromtimestamp(begin / 1e9, timezone.utc):%Y-%m-%d %H:%M UTC}' if begin > _EPOCH else ''
    page = environment.get_template('page.html').render(
        inspection=inspection, figures=_figures(inspection), sheets=_sheets(inspection), began=began,
        version=__version__,
    )  # fmt: skip
    with remedied(OutputError, expected=f'a place for the report at {target}', remedy='choose another path'):
        write_whole(target, page)


def _with_code(text: str) -> Markup:
    """Return a sentence with text in backticks marked as code."""
    return Markup(re.sub(r'`([^`]*)`', r'<code>\1</code>', str(escape(text))))


def _figures(inspection: Inspection) -> dict[str, str]:
    drawn: dict[str, tuple[Figure | None, bool]] = {
        'timeline': (pictures.timeline_picture(inspection) if inspection.activity else None, False),
        'rhythm': (pictures.rhythm_picture(inspection), True),
        'joints': (pictures.joints_picture(inspection) if inspection.joints else None, False),
        'lengths': (pictures.lengths_picture(inspection) if inspection.episodes else None, True),
        'episodes': (pictures.episodes_picture(inspection) if inspection.traces else None, False),
        'coverage': (pictures.coverage_picture(inspection) if inspection.coverage else None, False),
    }
    return {name: '' if figure is None else _embedded(figure, vector) for name, (figure, vector) in drawn.items()}


def _sheets(inspection: Inspection) -> dict[str, str]:
    found = {}
    for name, sheet in inspection.sheets.items():
        data = io.BytesIO()
        Pillow.fromarray(sheet).save(data, 'JPEG', quality=85)
        found[name] = f'data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}'
    return found


def _embedded(figure: Figure, vector: bool) -> str:
    data = io.BytesIO()
    figure.savefig(data, format='svg' if vector else 'png', dpi=130)
    kind = 'svg+xml' if vector else 'png'
    return f'data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}'
