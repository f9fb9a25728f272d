"""A quality report in the browser: one file, pictures and all."""

from __future__ import annotations

import base64
import io
import re
from datetime import datetime, timezone
from pathlib import Path

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from vdd_ros import __version__
from vdd_ros.common.errors import OutputError
from vdd_ros.data.quality.inspection import Inspection
from vdd_ros.data.quality.pages import pictures

_EPOCH = 1_000_000_000_000_000_000
"""Stamps below it are no wall time [ns]: they are those of a simulation."""


def write_page(inspection: Inspection, target: Path) -> None:
    """Write the report, aside first.

    Raises
    ------
    OutputError
        It cannot be written there.

    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters['code'] = _with_code
    begin = inspection.span[0]
    began = f'{datetime.fromtimestamp(begin / 1e9, timezone.utc):%Y-%m-%d %H:%M UTC}' if begin > _EPOCH else ''
    page = environment.get_template('page.html').render(
        inspection=inspection, figures=_figures(inspection), began=began,
        version=__version__,
    )  # fmt: skip
    aside = target.with_name(f'.{target.name}.partial')
    try:
        aside.write_text(page, encoding='utf-8')
        aside.replace(target)
    except OSError as error:
        raise OutputError(
            expected=f'a place for the report at {target}', found=error.strerror, remedy='choose another path'
        ) from error


def _with_code(text: str) -> Markup:
    """Return a sentence in which what stands between backticks is code."""
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


def _embedded(figure: Figure, vector: bool) -> str:
    data = io.BytesIO()
    figure.savefig(data, format='svg' if vector else 'png', dpi=130)
    kind = 'svg+xml' if vector else 'png'
    return f'data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}'
