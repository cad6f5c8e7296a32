"""Options of a command in a file: --config reads them, --save-config writes them."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ._console import USAGE, fail

__all__ = ["load_config", "save_config"]

NOT_SAVED = ("config", "save_config", "context", "help")


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options of a command from a file, as its defaults: what the command line states goes before.

    The file has the long names of the options, without the dashes in front, at the top or in a table with the name of
    the command.

    Raises
    ------
    typer.Exit
        It cannot be read, or names what the command does not have.
    """
    if path is None:
        return None
    try:
        contents = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail(f"--config {path} cannot be read ({error.strerror}); check its name", USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise fail(f"--config {path} is not TOML ({error})", USAGE) from error
    name = context.command.name or ""
    own = contents.get(name, {k: v for k, v in contents.items() if not isinstance(v, Mapping)})
    known = {_key(parameter): parameter for parameter in context.command.params if parameter.name not in NOT_SAVED}
    unknown = [key for key in own if key.replace("_", "-") not in known]
    if unknown or not isinstance(own, Mapping):
        import difflib

        near = difflib.get_close_matches(unknown[0].replace("_", "-"), known, 1) if unknown else []
        hint = f"; did you mean {near[0]}?" if near else f"; stackalign {name} --help lists its options"
        raise fail(f"--config {path}: {name} has no option {', '.join(unknown)}{hint}", USAGE)
    context.default_map = {
        str(known[key.replace("_", "-")].name): _value(known[key.replace("_", "-")], value, path)
        for key, value in own.items()
    }
    return path


def _value(parameter: Any, value: Any, path: Path) -> Any:
    """A value of the file as the command line would have it."""
    several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    flag = bool(getattr(parameter, "is_flag", False))
    if isinstance(value, list) != several or isinstance(value, bool) != flag:
        expected = "true or false" if flag else "a list" if several else "one value, in quotes where it is text"
        raise fail(
            f"--config {path}: {_key(parameter)} must be {expected}, got {json.dumps(value, default=str)}", USAGE
        )
    return value if several or flag else str(value)


def save_config(context: typer.Context, path: Path, *, replace: bool) -> None:
    """Write the options that were stated to a file; the others follow as comments, with their defaults.

    Raises
    ------
    typer.Exit
        The file exists, or cannot be written.
    """
    from stackalign import __version__
    from stackalign.io.atomic import write_text_atomic

    if path.exists() and not replace:
        raise fail(f"--save-config {path} exists; choose another name or add --overwrite", USAGE)
    name = context.command.name or ""
    lines = [f"# stackalign {__version__}: stackalign {name} --config {path.name}", f"[{name}]"]
    idle = []
    for parameter in context.command.params:
        if parameter.name is None or parameter.name in NOT_SAVED:
            continue
        value = context.params.get(parameter.name)
        source = context.get_parameter_source(parameter.name)
        if source is None or source.name == "DEFAULT":
            text = "" if value is None or value == [] else _toml(value)
            idle.append(f"# {_key(parameter)} = {text}".rstrip())
        elif value is not None:
            lines.append(f"{_key(parameter)} = {_toml(value)}")
    if not path.parent.is_dir():
        raise fail(f"--save-config {path}: the folder {path.parent} does not exist; create it first", USAGE)
    write_text_atomic(path, "\n".join([*lines, "", "# Left at their defaults:", *idle]) + "\n")


def _key(parameter: Any) -> str:
    """Name of an option in a file: its long name; of an argument, that of its parameter."""
    if parameter.param_type_name == "option":
        longest = next((option for option in parameter.opts if option.startswith("--")), parameter.opts[0])
        return str(longest).lstrip("-")
    return str(parameter.name).replace("_", "-")


def _toml(value: Any) -> str:
    """A plain value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)
