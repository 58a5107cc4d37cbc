"""One config for each experiment: a frozen dataclass that becomes absl flags and JSON.

Flags are defined only when an experiment runs as a program (`main`): two modules that define the
same flag at import cannot be imported together, and tests build the dataclass directly.
"""

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from absl import app, flags, logging

from emd.training import devices

_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


class Config(Protocol):
    """Any frozen dataclass; a field's metadata may hold `help` and `choices`."""

    __dataclass_fields__: typing.ClassVar[dict[str, dataclasses.Field[Any]]]


ConfigT = TypeVar("ConfigT", bound=Config)


def option(
    default: Any, help: str, *, choices: tuple[Any, ...] | None = None
) -> Any:  # Any, as `dataclasses.field` itself: it stands for a value of the field's type
    """A dataclass field with what its flag needs.

    Args:
        default: value when the flag is absent.
        help: what the flag sets, in a line, with its unit.
        choices: the only values allowed.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def define_flags(cls: type[Config]) -> None:
    """Defines one absl flag for each field of `cls`, as if its own module had.

    Args:
        cls: a dataclass whose fields are int, float, bool, str, or one of these or None, each
            with a default.

    Raises:
        TypeError: for a field of another type or without a default: a mistake in the program.
    """
    # Else absl counts these flags as this module's, and `--help`, which lists those of the main
    # module, shows none. From here on the caller's module counts.
    flags.disclaim_key_flags()
    for field in dataclasses.fields(cls):
        kind = _kind(cls, field.name)
        if field.default is dataclasses.MISSING:
            raise TypeError(f"{cls.__name__}.{field.name} has no default: its flag needs one")
        text = field.metadata.get("help", "")
        choices = field.metadata.get("choices")
        if choices is not None and kind is str:
            flags.DEFINE_enum(field.name, field.default, list(choices), text)
        else:
            if choices is not None:
                text = f"<{'|'.join(map(str, choices))}>: {text}"
            _DEFINE[kind](field.name, field.default, text)


def from_flags(cls: type[ConfigT]) -> ConfigT:
    """The config that the parsed flags describe, checked against each field's choices.

    Args:
        cls: the dataclass that `define_flags` was called with.

    Raises:
        ValueError: for a value outside its field's choices.
    """
    return _build(
        cls, {field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(cls)}
    )


def to_json(config: Config) -> str:
    """The config as JSON, one line a field, in the fields' order."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(type(config))}
    return json.dumps(values, indent=2) + "\n"


def check_counts(config: Config, *names: str) -> None:
    """Refuses a config in which one of these fields is below 1.

    Raises:
        ValueError: for the first that is.
    """
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}: give at least 1")


def keep(config: Config, folder: Path, *, free: Collection[str], also: Mapping[str, str]) -> None:
    """Writes `config.json` into a run's folder, unless a run with other settings is there.

    Args:
        config: settings of the run that begins or goes on.
        folder: where its state is.
        free: fields that may differ when it goes on.
        also: names and fingerprints of what else must not change, such as the data.

    Raises:
        ValueError: if the folder holds a run with other settings, or a damaged record of them.
    """
    path = folder / "config.json"
    settings = {**json.loads(to_json(config)), **also}
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise ValueError(f"{path} is damaged: remove {folder} to start anew") from None
        other = [name for name in settings if before.get(name) != settings[name]]
        if changed := [name for name in other if name not in free]:
            raise ValueError(
                f"{folder} holds a run with another {', '.join(changed)}: "
                "give another --workdir, or remove that folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(settings, indent=2) + "\n")
    partial.replace(path)


def main(run: Callable[[ConfigT], Mapping[str, float]], cls: type[ConfigT]) -> None:
    """Runs an experiment as a program: flags in, its results out, one line for an expected error.

    Exits with 0, or with 1 after `error: ...` on stderr (`--verbosity=1` shows its traceback), or
    with 130 after an interrupt. Unexpected errors always show their traceback.

    Args:
        run: the experiment; what it returns is printed, one `name value` a line.
        cls: the dataclass of its config.
    """
    define_flags(cls)

    def checked(argv: list[str]) -> None:
        if len(argv) > 1:
            raise ValueError(f"unexpected argument {argv[1]!r}: options are written --name=value")
        results = run(from_flags(cls))
        for name, value in results.items() if devices.is_first() else ():
            print(f"{name} {value:.6g}")

    def guarded(argv: list[str]) -> None:
        with devices.ending_together():
            try:
                checked(argv)
            except KeyboardInterrupt:
                _exit("interrupted", 130)
            # FormatError is a ValueError, FileNotFoundError an OSError, as is a full disk;
            # training that diverges is an ArithmeticError.
            except (ValueError, OSError, ArithmeticError) as error:
                logging.debug("traceback of the error below", exc_info=True)
                _exit(str(error), 1)

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    """What is left of the arguments once the flags are taken; a bad flag ends the program."""
    try:
        rest: list[str] = flags.FLAGS(argv)
    except flags.Error as error:
        _exit(f"{error}; --help lists the flags", 1)
    verbosity = flags.FLAGS["verbosity"]
    if verbosity.using_default_value:
        # absl would raise it to INFO, at which orbax says a dozen lines a checkpoint
        verbosity.value, verbosity.using_default_value = logging.WARNING, False
    return rest


def _exit(message: str, code: int) -> typing.NoReturn:
    """Ends the program with one line on stderr, whatever line breaks the message has."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _kind(cls: type[Config], name: str) -> type:
    """The scalar type of a field, without its `None`."""
    hint = typing.get_type_hints(cls)[name]
    members = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
    if len(members) != 1 or members[0] not in _DEFINE:
        raise TypeError(f"{cls.__name__}.{name} is a {hint}: a flag is an int, float, bool or str")
    kind: type = members[0]
    return kind


def _build(cls: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """A config of these values, each one of its field's choices."""
    for field in dataclasses.fields(cls):
        choices = field.metadata.get("choices")
        value = values.get(field.name, field.default)
        if choices is not None and value is not None and value not in choices:
            valid = ", ".join(map(str, choices))
            raise ValueError(f"{field.name}={value} is not valid: choose one of {valid}")
    return cls(**values)
