"""The training settings: chosen by a command, and listed with their docstrings."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vdd_ros.commands.echo import echo, out

if TYPE_CHECKING:
    from vdd_ros.contract.contract import Contract
    from vdd_ros.learning.learning_settings import LearningSettings

_WIDTH = 80


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """Common options of the training commands: a settings file, and changes of single settings."""

    settings: Path | None = None
    """Training settings: a YAML file, or shipped settings: learning_chunked, learning_joint, learning (single steps).
    By default the shipped settings that suit the contract."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Change one setting, such as teacher.trunk.width=512; can be repeated. `vdd settings` lists all."""

    def chosen(self, contract: Contract) -> LearningSettings:
        """Return the settings for a contract, and print their source."""
        from vdd_ros.learning.learning_settings import load_settings, preset

        name = preset(contract)
        found = load_settings(self.settings or name).changed(self.set)
        source = f'{self.settings}' if self.settings is not None else f'{name}, which suit the contract {contract.name}'
        echo(f'settings: {source}{"".join(f", {change}" for change in self.set)}')
        return found


@dataclass(frozen=True)
class SettingsCommand:
    """List the training settings: name, type, value and meaning of each.

    Training commands (train-teacher, distill, sweep, demo) change a single setting with --set NAME=VALUE, or several
    with --settings FILE, a YAML file.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Only settings whose names start with or contain one of these: teacher, trunk, iterations."""
    settings: Path | None = None
    """Show the values of a YAML file, or of shipped settings: learning, learning_chunked, learning_joint. Default: the
    values that apply without a file."""

    def run(self) -> None:
        """Run the command."""
        from vdd_ros.common.errors import ConfigurationError
        from vdd_ros.common.settings_docs import settings_of
        from vdd_ros.learning.learning_settings import LearningSettings, load_settings

        values = LearningSettings.parse({}) if self.settings is None else load_settings(self.settings)
        listed = list(settings_of(values))
        shown = [item for item in listed if not self.names or any(name in item.name for name in self.names)]
        if not shown:
            groups = sorted({item.name.partition('.')[0] for item in listed})
            raise ConfigurationError(
                expected=f'the name of a setting, or a part of one, instead of {", ".join(self.names)}',
                found='no match',
                remedy=f'the groups are {", ".join(groups)}',
            )
        for item in shown:
            out.print(f'[bold]{item.name}[/] = {item.default}', highlight=False, soft_wrap=True)
            for text in (item.kind, item.text):
                out.print(
                    textwrap.fill(text, _WIDTH, initial_indent='    ', subsequent_indent='    '),
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
