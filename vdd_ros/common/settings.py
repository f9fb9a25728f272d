"""The base class of all settings: frozen, validated, read from YAML or from the manifest of an artifact."""

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
    """Frozen settings with usable defaults. `model_dump(mode='json')` and `parse` are inverse to each other."""

    model_config = ConfigDict(frozen=True, extra='forbid')

    former_names: ClassVar[Mapping[str, str]] = {}
    """Current names of renamed keys, by deprecated name. Deprecated names are still read, with a `FutureWarning`."""

    @model_validator(mode='before')
    @classmethod
    def _rename(cls, values: Any) -> Any:
        return renamed(values, cls.former_names, cls.__name__) if isinstance(values, Mapping) else values

    @classmethod
    def parse(cls: type[SettingsType], values: Any, document: Document | None = None) -> SettingsType:
        """Validate plain values from YAML or JSON; errors name the line of the document.

        Raises
        ------
        ConfigurationError
            A key is unknown (the known keys are listed), or a value is out of range.

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
            path = first_error(error)['loc']
            where = f' in {document.place(document.line(path))}' if document is not None else ''
            raise ConfigurationError(expected=f'valid {cls.__name__}{where}', found=found, remedy=remedy) from error

    @classmethod
    def read(cls: type[SettingsType], file: str | Path) -> SettingsType:
        """Read a YAML file.

        Raises
        ------
        ConfigurationError
            The file cannot be read or is not valid YAML, or see `parse`; the message names the line.

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
            An assignment has no value, its name is unknown (the known names are listed), or a value is out of range.

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
                    expected=f'a value in YAML for {name}', found=repr(text), remedy='quote the text'
                ) from error
            _assign(type(self), values, name.strip().split('.'), value)
        return type(self).parse(values)


def renamed(values: Mapping[str, Any], former_names: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return values under the current names of their keys, and warn about each deprecated name.

    Parameters
    ----------
    values
        Values by name.
    former_names
        Current names, by deprecated name.
    where
        The owner of the values, for the warning.

    Raises
    ------
    ConfigurationError
        A value is given under both its deprecated and its current name.

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


def rename_attributes(kind: type, former_names: Mapping[str, str]) -> None:
    """Rename attributes that a class defines under deprecated names to their current names, with a warning for each.

    Call this function in ``__init_subclass__``: classes of other packages may use the names of an earlier version.

    Parameters
    ----------
    kind
        The class.
    former_names
        Current names, by deprecated name.

    """
    for former, present in former_names.items():
        if former in vars(kind) and present not in vars(kind):
            message = f'{former} of {kind.__qualname__} is now named {present}; rename it'
            warnings.warn(message, FutureWarning, stacklevel=3)
            setattr(kind, present, vars(kind)[former])


def first_error(error: ValidationError) -> Mapping[str, Any]:
    """Return the validation error that is reported: a misspelt key before the key that is missing for this reason."""
    return min(error.errors(), key=lambda each: each['type'] != 'extra_forbidden')


def explained(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Return the found value and the remedy for the first validation error of a model."""
    first = first_error(error)
    path = [part for part in first['loc'] if part != 'function-after']
    place = '.'.join(map(str, path)) or model.__name__
    if first['type'] == 'extra_forbidden':
        owner = model_at(model, path[:-1])
        remedy = 'remove or correct it' if owner is None else known_settings(owner, str(path[-1]), path[:-1])
        return f'{place}: an unknown setting', remedy
    shown = '' if isinstance(first['input'], (Mapping, BaseModel)) else f' (found {first["input"]!r})'
    return (
        f'{place}: {first["msg"].removeprefix("Value error, ")}{shown}',
        'correct the value',
    )


def known_settings(model: type[BaseModel], name: str, path: Sequence[str | int] = ()) -> str:
    """Return a remedy for an unknown name: the closest known name, and all known names."""
    close = difflib.get_close_matches(name, model.model_fields, 1)
    near = f'did you mean {close[0]}? ' if close else ''
    return f'{near}known settings{" of " + ".".join(map(str, path)) if path else ""}: {", ".join(model.model_fields)}'


def model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of the values at a path, or None if there is none.

    A part of a path is a key, an index of a list, or the tag of a union.
    """
    here: Any = model
    for part in path:
        here = _entry_of(here, part)
    return model_of(here)


def _entry_of(annotation: Any, part: str | int) -> Any:
    """Return the annotation of an entry of a model, list, mapping or union; None if it has no such entry."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _entry_of(arguments[0], part)
    if origin in (Union, types.UnionType):
        tagged = [each for each in arguments if len(arguments) > 1 and part in _tags(each)]
        return tagged[0] if tagged else next(filter(None, (_entry_of(each, part) for each in arguments)), None)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    if not isinstance(origin, type):
        return None
    if issubclass(origin, Mapping):
        return arguments[1]
    return arguments[0] if issubclass(origin, Sequence) and isinstance(part, int) else None


def _tags(annotation: Any) -> set[Any]:
    """Return the values of `type` that select a model of a union."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel) and 'type' in annotation.model_fields
    return set(get_args(annotation.model_fields['type'].annotation)) if is_model else set()


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of an annotation: plain, annotated or optional; else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is Annotated:
        return model_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        models = [found for part in get_args(annotation) if (found := model_of(part)) is not None]
        return models[0] if len(models) == 1 else None
    return None


def _assign(model: type[BaseModel], values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value at a path of the plain values of a model."""
    for depth, part in enumerate(path):
        owner = model_at(model, path[:depth])
        if owner is not None and issubclass(owner, Settings):
            part = owner.former_names.get(part, part)
        if owner is None:
            raise ConfigurationError(
                expected=f'a setting within {".".join(path[:depth])}',
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
