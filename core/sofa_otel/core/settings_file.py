"""A settings file as flat keys with the line each stands on: TOML always, YAML where a reader for it is installed."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sofa_otel.core.errors import RequirementError, UsageError


class SettingsFile(NamedTuple):
    """Values by dotted key (``metrics.port``)."""

    path: Path
    text: str
    values: dict[str, Any]

    def where(self, key: str) -> str:
        """``file:line`` of a key, the file alone where the line is not found."""
        line = _line_of(self.text, key)
        return f"{self.path}:{line}" if line else str(self.path)


def read_settings_file(path: Path) -> SettingsFile:
    """Read a TOML or (by its ending) YAML file.

    Raises:
        UsageError: It cannot be read or is malformed; the message names file and line.
        RequirementError: It is YAML and no YAML reader is installed.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "name a readable file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}, byte {error.start}: not UTF-8", "save the file as UTF-8") from error
    document = _yaml(path, text) if path.suffix.lower() in (".yaml", ".yml") else _toml(path, text)
    if not isinstance(document, dict):
        raise UsageError(f"{path}:1: holds no keys", "write KEY = VALUE lines")
    return SettingsFile(path, text, _flat(document, ""))


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"line (\d+)", str(error))
        line = match[1] if match else text.count("\n") + 1
        raise UsageError(f"{path}:{line}: not valid TOML: {error}", 'write KEY = VALUE lines, texts in "quotes"') from error


def _yaml(path: Path, text: str) -> Any:
    if find_spec("yaml") is not None:
        load = import_module("yaml").safe_load
    elif find_spec("ruamel") is not None and find_spec("ruamel.yaml") is not None:
        load = import_module("ruamel.yaml").YAML(typ="safe", pure=True).load
    else:
        raise RequirementError(f"{path}: no YAML reader is installed", "pip install pyyaml, or write the file as TOML")
    try:
        return load(text)
    except Exception as error:  # each reader has its own errors
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise UsageError(f"{path}:{line}: not valid YAML: {error}", "correct the file, or write it as TOML") from error


def _flat(document: dict[Any, Any], prefix: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def _line_of(text: str, key: str) -> int:
    """Line on which a dotted key is set: its last word, in its table if there is one."""
    table, _, word = key.rpartition(".")
    pattern = re.compile(rf"""\s*["']?(?:{re.escape(key)}|{re.escape(word)})["']?\s*[=:]""")
    header = re.compile(rf"\s*\[?\[?\s*{re.escape(table)}\s*(?:\]|:)") if table else None
    inside, fallback = not table, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header is not None and header.match(line):
            inside = True
        elif re.match(r"\s*\[", line):
            inside = False
        if pattern.match(line):
            if inside:
                return number
            fallback = fallback or number
    return fallback
