"""The base of every group of settings: frozen, checked, read from YAML, and read back from an artifact's manifest."""

from __future__ import annotations

import difflib
import types
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.yaml_file import Document, read_document

SettingsType = TypeVar('SettingsType', bound='Settings')


class Settings(BaseModel):
    """Frozen settings with defaults that run; `model_dump(mode='json')` and `parse` are each other's inverse."""

    model_config = ConfigDict(frozen=True, extra='forbid')

    former_names: ClassVar[Mapping[str, str]] = {}
    """The present name of each key that was renamed. Former names are still read, with a `FutureWarning`."""

    @model_validator(mode='before')
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return renamed(values, cls.former_names, cls.__name__) if isinstance(values, Mapping) else values

    @classmethod
    def parse(cls: type[SettingsType], values: Any, document: Document | None = None) -> SettingsType:
        """Check plain values, as they come from YAML or JSON; errors name the line of the document that they are of.

        Raises
        ------
        ConfigurationError
            A key is unknown (the known ones are listed), or a value is out of range.

        """
        if not isinstance(values, (Mapping, BaseModel, type(None))):
            where = f' in {document.file}' if document is not None else ''
            raise ConfigurationError(
                expected=f'keys and values of {cls.__name__}{where}',
                found=f'a {type(values).__name__}',
                remedy='write `key: value`',
            )
        try:
            return cls.model_validate({} if values is None else values)
        except ValidationError as error:
            found, remedy = explained(error, cls)
            path = error.errors()[0]['loc']
            where = f' in {document.place(document.line(path))}' if document is not None else ''
            raise ConfigurationError(expected=f'valid {cls.__name__}{where}', found=found, remedy=remedy) from error

    @classmethod
    def read(cls: type[SettingsType], file: str | Path) -> SettingsType:
        """Read a YAML file.

        Raises
        ------
        ConfigurationError
            The file cannot be read, is no YAML, or holds what `parse` refuses; with the line.

        """
        document = read_document(file, f'{cls.__name__} in YAML')
        return cls.parse(document.values, document)

    def changed(self: SettingsType, assignments: Iterable[str]) -> SettingsType:
        """Return these settings with some values replaced.

        Parameters
        ----------
        assignments
            ``name=value``, the name with dots and the value in YAML: ``teacher.trunk.width=512``, ``trackers=[wandb]``.

        Raises
        ------
        ConfigurationError
            An assignment has no value, its name is unknown (the known ones are listed), or a value is out of range.

        """
        values = self.model_dump(mode='json')
        for assignment in assignments:
            name, equals, text = assignment.partition('=')
            if not equals or not name:
                raise ConfigurationError(
                    expected='name=value', found=repr(assignment), remedy='write for example teacher.trunk.width=512'
                )
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ConfigurationError(
                    expected=f'a value in YAML for {name}', found=repr(text), remedy='put quotes around a text'
                ) from error
            _assign(type(self), values, name.strip().split('.'), value)
        return type(self).parse(values)


def renamed(values: Mapping[str, Any], former_names: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return values by their present names, and warn of each former one.

    Parameters
    ----------
    values
        Values by name.
    former_names
        The present name of each former one.
    where
        What the values belong to, for the warning.

    Raises
    ------
    ConfigurationError
        A value is given by both names.

    """
    found = dict(values)
    for former, present in former_names.items():
        if former not in found:
            continue
        if present in found:
            raise ConfigurationError(
                expected=f'one value for {present} of {where}',
                found=f'another for {former}, its former name',
                remedy=f'remove {former}',
            )
        warnings.warn(f'{former} of {where} is now named {present}; rename it', FutureWarning, stacklevel=2)
        found[present] = found.pop(former)
    return found


def explained(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Return what was found, and the remedy, for the first error about the values of a model."""
    first = error.errors()[0]
    path = [part for part in first['loc'] if part != 'function-after']
    place = '.'.join(map(str, path)) or model.__name__
    if first['type'] == 'extra_forbidden':
        owner = model_at(model, path[:-1]) or model
        return f'{place}: an unknown setting', known_settings(owner, str(path[-1]), path[:-1])
    shown = '' if isinstance(first['input'], (Mapping, BaseModel)) else f' (found {first["input"]!r})'
    return (
        f'{place}: {first["msg"].removeprefix("Value error, ")}{shown}',
        'correct the value',
    )


def known_settings(model: type[BaseModel], name: str, path: Sequence[str | int] = ()) -> str:
    """Return a remedy for an unknown name: the nearest one that is known, and all of them."""
    close = difflib.get_close_matches(name, model.model_fields, 1)
    near = f'did you mean {close[0]}? ' if close else ''
    return f'{near}known settings{" of " + ".".join(map(str, path)) if path else ""}: {", ".join(model.model_fields)}'


def model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of the values at a path, or None where there is none."""
    here: type[BaseModel] | None = model
    for part in path:
        if here is None or part not in here.model_fields:
            return None
        here = model_of(here.model_fields[part].annotation)
    return here


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation names, alone, annotated or as optional; else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Annotated:
        return model_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        models = [found for part in get_args(annotation) if (found := model_of(part)) is not None]
        return models[0] if len(models) == 1 else None
    return None


def _assign(model: type[BaseModel], values: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value at a path into the plain values of a model."""
    for depth, part in enumerate(path):
        owner = model_at(model, path[:depth])
        if owner is not None and issubclass(owner, Settings):
            part = owner.former_names.get(part, part)
        if owner is None:
            raise ConfigurationError(
                expected=f'a name of a setting within {".".join(path[:depth])}',
                found=f'{".".join(path)}, where {path[depth - 1]} is a single value',
                remedy=f'set {".".join(path[:depth])} itself',
            )
        if part not in owner.model_fields:
            raise ConfigurationError(
                expected='the name of a setting',
                found='.'.join(path[: depth + 1]),
                remedy=known_settings(owner, part, path[:depth]),
            )
        if depth == len(path) - 1:
            values[part] = value
        else:
            if values[part] is None:
                values[part] = {}
            values = values[part]
