"""Read, check and write configurations: a YAML file and ``key.sub=value`` overrides become a `Config`.

Imports neither torch nor anything else that is slow, so that a mistake is reported at once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from detector.config import Config
from detector.config_overrides import apply_overrides
from detector.config_problems import explain, find_non_finite, join_problems
from detector.config_schema import Key
from detector.config_yaml import ConfigError, YamlDocument, read_yaml, write_flow, write_yaml

__all__ = [
    "ConfigError",
    "LoadedConfig",
    "dump_config",
    "find_config",
    "flatten_config",
    "format_config",
    "load_config",
    "load_config_text",
    "load_config_with_origins",
]

MAX_FILE_BYTES = 1_000_000
"""More than any recipe needs; keeps an annotation file, which is YAML too, from being parsed for minutes."""


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where it came from."""

    config: Config
    """The checked values."""
    origins: Mapping[Key, str]
    """``configs/x.yaml:12`` or ``the command line`` for each value that was given, by its path, such as
    ``("data", "augment", 0, "p")``. A value that is not in it is the schema's default."""
    notes: tuple[str, ...]
    """What gave way to an override, one line each."""


def find_config(name_or_path: str | Path) -> Path:
    """Find a configuration file by its path, or by the name of a shipped one.

    Args:
        name_or_path: a path, or ``retina_demo`` or ``retina_demo.yaml``. A file of that path comes first.

    Raises:
        ConfigError: there is neither; the message lists the shipped names.
    """
    path = Path(name_or_path)
    try:
        if path.exists() and not path.is_dir():
            return path
        shipped = _shipped_configs()
        if len(path.parts) == 1 and path.name.removesuffix(".yaml") in shipped:
            return shipped[path.name.removesuffix(".yaml")]
        if path.is_dir():
            return path  # reading it says what is wrong
    except (OSError, ValueError) as error:  # a name that is too long or holds a null character
        raise ConfigError(f"configuration '{name_or_path}': {_reason(error)}") from error
    similar = get_close_matches(path.stem, shipped, n=1)
    question = f" Did you mean '{similar[0]}'?" if similar else ""
    raise ConfigError(
        f"no configuration '{name_or_path}': there is no such file.{question} "
        f"The shipped configurations are {', '.join(shipped)}."
    )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration; see :func:`load_config_with_origins`."""
    return load_config_with_origins(path, overrides).config


def load_config_with_origins(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read a configuration file, merge overrides into it and check the result.

    Args:
        path: a YAML file, or the name of a shipped configuration.
        overrides: ``key.sub=value`` each, with YAML values. One of `schedule.max_steps` and `schedule.epochs` replaces
            the file's other, and so with `milestones` and `milestones_epochs`.

    Returns:
        The configuration with the origin of every value.

    Raises:
        ConfigError: the file cannot be read or is not YAML, or keys or values are wrong. Then all errors of the file
            and the overrides are in one message, each with its line or ``the command line``.
    """
    return _check(_read_file(find_config(path)), overrides)


def load_config_text(text: str, source: str, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration from YAML text, such as the one that a checkpoint holds.

    Args:
        text: the YAML.
        source: what to call it in messages.
        overrides: ``key.sub=value`` each.

    Raises:
        ConfigError: see :func:`load_config_with_origins`.
    """
    document = _check_is_mapping(read_yaml(text, lambda line: f"{source}:{line}"), source)
    return _check(document, overrides).config


def _check(document: YamlDocument, overrides: Sequence[str]) -> LoadedConfig:
    """Merge overrides into a document and check the result."""
    document, notes, problems = apply_overrides(document, overrides)
    origins = document.origins
    non_finite = dict(find_non_finite(document.value, origins))
    config = None
    try:
        config = Config.model_validate_json(json.dumps(document.value))
        wrong = {}
    except ValidationError as error:
        wrong = explain(error, document.value, origins)
    problems = (*problems, *(non_finite | wrong).values())
    if problems or config is None:
        raise ConfigError(join_problems(problems))
    return LoadedConfig(config, MappingProxyType(origins), notes)


def dump_config(config: Config) -> str:
    """Write a configuration as YAML with every value, from which :func:`load_config` makes the identical one."""
    return write_yaml(config.model_dump(mode="json"), lambda _key: None)


def flatten_config(config: Config) -> dict[str, str]:
    """Return every value as YAML by its dotted key, such as ``optimizer.lr``: to compare two configurations."""
    flat: dict[str, str] = {}

    def visit(section: dict[str, Any], prefix: str) -> None:
        for name, value in section.items():
            if isinstance(value, dict):
                visit(value, f"{prefix}{name}.")
            else:
                flat[f"{prefix}{name}"] = write_flow(value)

    visit(config.model_dump(mode="json"), "")
    return flat


def format_config(loaded: LoadedConfig) -> str:
    """Write a configuration as YAML with the origin of every value behind it, and the notes before it."""
    notes = "".join(f"# {note}\n" for note in loaded.notes)

    def origin(key: Key) -> str | None:
        return loaded.origins.get(key, "default")

    return notes + write_yaml(loaded.config.model_dump(mode="json"), origin)


def _read_file(path: Path) -> YamlDocument:
    name = _shown(path)
    if path.is_dir():
        raise ConfigError(f"{name}: expected a YAML file, found a directory")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {_reason(error)}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_FILE_BYTES} bytes, which no configuration is")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8 text (byte 0x{content[error.start]:02x})") from error
    return _check_is_mapping(read_yaml(text, lambda line: f"{name}:{line}"), name)


def _check_is_mapping(document: YamlDocument, name: str) -> YamlDocument:
    if document.value is None:
        raise ConfigError(f"{name}: the file is empty; expected keys and values such as 'output_dir: runs/first'")
    if not isinstance(document.value, dict):
        found = "a list" if isinstance(document.value, list) else f"only {document.value!r}"
        raise ConfigError(
            f"{document.origins[()]}: expected keys and values such as 'output_dir: runs/first', found {found}"
        )
    return document


def _shipped_configs() -> dict[str, Path]:
    """Map the names of the shipped configurations to their files: in the wheel, or in the checkout."""
    package = Path(__file__).parent
    in_wheel = package / "_configs"
    folder = in_wheel if in_wheel.is_dir() else package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _shown(path: Path) -> str:
    """Write a path as the user would: relative where it lies below the working directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
