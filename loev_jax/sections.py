"""A section of a config becomes a checked, frozen dataclass."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

from loev_jax.errors import UserError

T = TypeVar("T")


def build(cls: type[T], section: Mapping[str, Any], where: str, **given: Any) -> T:
    """Makes a frozen dataclass of a section of a config.

    Args:
        cls: the dataclass; its fields and their types are what is allowed.
        section: values by field; a field left out keeps its default.
        where: dotted name of the section, for messages.
        **given: fields that the section may not set.

    Raises:
        UserError: an unknown field, a value of another type, or one that `cls` refuses.
    """
    hints = typing.get_type_hints(cls)
    # Sections are dataclasses, for which `typing` has no name.
    known = [field.name for field in dataclasses.fields(cls) if field.name not in given]  # type: ignore[arg-type]
    for name in section:
        if name not in known:
            raise UserError(f"config.{where}.{name}: unknown field; known: {', '.join(known)}")
    values = {
        name: convert(hints[name], value, f"{where}.{name}") for name, value in section.items()
    }
    try:
        return cls(**values, **given)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UserError(f"config.{where}: {error}") from error


def convert(hint: Any, value: Any, where: str) -> Any:
    """Checks a value against a type hint; lists become tuples and whole numbers floats.

    Args:
        hint: a type, a Literal, an optional, a tuple, a mapping or a dataclass.
        value: as a config holds it.
        where: dotted name of the field, for messages.

    Raises:
        UserError: the value is of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return convert(next(one for one in arguments if one is not type(None)), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(typing.cast(type, hint), value, where)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        expected = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(expected) == len(value):
            pairs = zip(expected, value, strict=True)
            return tuple(convert(one, item, where) for one, item in pairs)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {
            name: convert(arguments[1], item, f"{where}.{name}") for name, item in value.items()
        }
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    whole = hint is int and isinstance(value, bool)  # bool is a kind of int, but no number
    if isinstance(hint, type) and origin is None and isinstance(value, hint) and not whole:
        return value
    raise UserError(f"config.{where}: {value!r} is not {_called(hint)}")


def _called(hint: Any) -> str:
    """A type as a message names it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin is tuple:
        return f"a tuple ({', '.join(map(_called, arguments))})"
    return "..." if hint is ... else getattr(hint, "__name__", str(hint))
