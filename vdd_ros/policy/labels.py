"""Names and colours of a student's experts, assigned by a person and stored in the folder of the artifact."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field

from vdd_ros.common.errors import ArtifactError, ConfigurationError, remedied
from vdd_ros.common.output import write_whole
from vdd_ros.common.settings import Settings

LABELS = 'labels.yaml'
"""Name of the file in the folder of an artifact. The hash of the artifact does not cover this file."""

_NAME = re.compile(r'[^\W\d][\w ./+-]{0,39}')
_COLOUR = re.compile(r'#[0-9a-f]{6}')


def default_colour(expert: int) -> str:
    """Return the default colour of an expert, ``#rrggbb``.

    Hues advance by the golden ratio, so experts with consecutive numbers have clearly different colours.
    """
    parts = colorsys.hsv_to_rgb(expert * 0.618 % 1.0, 0.8, 0.9)
    return '#' + ''.join(f'{round(255 * part):02x}' for part in parts)


def _as_label(value: Any) -> Any:
    return {'name': value} if isinstance(value, str) else value


class Label(Settings):
    """Name and colour of one expert."""

    name: str
    """Unique in the student: a letter, then letters, digits, spaces and `. / + - _`, at most 40 characters."""
    colour: str = ''
    """`#rrggbb`. Default: derived from the expert number."""


class LabelFile(Settings):
    """Contents of a label file: names and colours of the experts of one artifact."""

    artifact: str
    """Hash of the artifact that the labels belong to."""
    experts: dict[Annotated[int, Field(ge=0)], Annotated[Label, BeforeValidator(_as_label)]] = {}
    """Labels by expert number."""


@dataclass(frozen=True)
class Labels:
    """Names and colours of experts; without arguments, no expert has a name."""

    experts: Mapping[int, Label] = field(default_factory=lambda: MappingProxyType({}))
    """Labels by expert number."""

    def __post_init__(self) -> None:
        """Refuse names that are malformed or not unique, and malformed colours, with a `ConfigurationError`."""
        seen: dict[str, int] = {}
        for expert, label in self.experts.items():
            if not _NAME.fullmatch(label.name):
                raise ConfigurationError(
                    expected='a name of a letter and then letters, digits, spaces and . / + - _, up to 40 characters',
                    found=f'{label.name!r} for expert {expert}',
                    remedy='choose another name',
                )
            if label.colour and not _COLOUR.fullmatch(label.colour):
                raise ConfigurationError(
                    expected='a colour as #rrggbb in lower case',
                    found=f'{label.colour!r} for expert {expert}',
                    remedy='correct the colour',
                )
            if label.name in seen:
                raise ConfigurationError(
                    expected='a different name for each expert',
                    found=f'{label.name!r} for experts {seen[label.name]} and {expert}',
                    remedy='rename one of them',
                )
            seen[label.name] = expert

    def name(self, expert: int) -> str:
        """Return the name of an expert, or its number if it has none."""
        label = self.experts.get(expert)
        return str(expert) if label is None else label.name

    def text(self, expert: int) -> str:
        """Return number and name for display: ``3 (left)``, or ``3`` without a name."""
        label = self.experts.get(expert)
        return str(expert) if label is None else f'{expert} ({label.name})'

    def colour(self, expert: int) -> str:
        """Return the colour of an expert, ``#rrggbb``."""
        label = self.experts.get(expert)
        return default_colour(expert) if label is None or not label.colour else label.colour

    def number(self, name: str) -> int | None:
        """Return the number of an expert from its name or from decimal digits; None if no expert has the name."""
        if name.isdecimal():
            return int(name)
        return next((expert for expert, label in self.experts.items() if label.name == name), None)


def load_labels(folder: Path, artifact: str, experts: int) -> Labels:
    """Read the labels of an artifact; returns empty `Labels` if the artifact has no label file.

    Parameters
    ----------
    folder
        Folder of the artifact.
    artifact
        Hash of the artifact.
    experts
        Number of experts of the student.

    Raises
    ------
    ArtifactError
        The file is malformed, belongs to another artifact, or names an expert that does not exist.

    """
    file = folder / LABELS
    if not file.exists():
        return Labels()
    try:
        found = LabelFile.read(file)
        labels = Labels(MappingProxyType(dict(sorted(found.experts.items()))))
    except ConfigurationError as error:
        raise ArtifactError(
            expected=f'labels of experts in {file}',
            found=' '.join(str(error).split()),
            remedy='correct or remove the file; `vdd label` writes it',
        ) from error
    if found.artifact != artifact:
        raise ArtifactError(
            expected=f'labels of artifact {artifact[:12]} in {file}',
            found=f'labels of artifact {found.artifact[:12]}',
            remedy='remove the file and name the experts again with `vdd label`: numbers differ between students',
        )
    if absent := [expert for expert in labels.experts if expert >= experts]:
        raise ArtifactError(
            expected=f'labels of experts 0 to {experts - 1} in {file}',
            found=f'a label of expert {absent[0]}',
            remedy='remove that entry',
        )
    return labels


def save_labels(folder: Path, artifact: str, labels: Labels) -> None:
    """Write the labels of an artifact to a temporary file, and rename it to `LABELS` in ``folder``.

    Raises
    ------
    ArtifactError
        The folder cannot be written to.

    """
    experts = {
        expert: {'name': label.name, 'colour': labels.colour(expert)}
        for expert, label in sorted(labels.experts.items())
    }
    text = yaml.safe_dump({'artifact': artifact, 'experts': experts}, sort_keys=False, allow_unicode=True)
    expected, remedy = f'a folder that can be written to at {folder}', 'copy the artifact to a folder of your own'
    with remedied(ArtifactError, expected=expected, remedy=remedy):
        write_whole(folder / LABELS, text)
