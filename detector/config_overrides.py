"""Overrides ``key.sub=value`` from the command line, merged into what was read from a file."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from detector.config_problems import unknown_key
from detector.config_schema import Key, find_section, format_key, is_list, section_keys
from detector.config_yaml import ConfigError, YamlDocument, read_yaml, write_flow

_Path: TypeAlias = tuple[str, ...]

COMMAND_LINE = "the command line"
"""Origin of overridden values."""

ALTERNATIVES: tuple[tuple[_Path, _Path], ...] = (
    (("schedule", "max_steps"), ("schedule", "epochs")),
    (("schedule", "milestones"), ("schedule", "milestones_epochs")),
    (("data", "train", "annotations"), ("data", "train", "path")),
    (("data", "val", "annotations"), ("data", "val", "path")),
    (("data", "val"), ("data", "holdout")),
)
"""Pairs of which a recipe gives one: one on the command line replaces the file's other ..."""
COMPANIONS: dict[_Path, tuple[_Path, ...]] = {
    ("data", split, one): tuple(("data", split, key) for key in ("images", "format", "split"))
    for split in ("train", "val")
    for one in ("annotations", "path")
}
"""... with what belonged to it."""


def apply_overrides(
    document: YamlDocument, overrides: Sequence[str]
) -> tuple[YamlDocument, tuple[str, ...], tuple[str, ...]]:
    """Merge overrides into a document.

    The value is what follows the first ``=``, read by the rules of the file. A mapping replaces the keys that it names
    and leaves the section's others; a list is replaced as a whole. Of two overrides of one key the later counts.

    Args:
        document: a mapping read from a file; it is not changed.
        overrides: ``key.sub=value`` each.

    Returns:
        The merged document, notes on what gave way to an override, and the problems: overrides that are no
        ``key=value``, have an unknown key or cannot be parsed. Those are left out of the document.
    """
    assignments: dict[_Path, Any] = {}
    problems: list[str] = []
    for override in overrides:
        try:
            for key, value in _parse(override):
                assignments.pop(key, None)  # the later one also comes later
                assignments[key] = value
        except ConfigError as error:
            problems.append(str(error))
    tree, origins = _copy(document.value), dict(document.origins)
    notes = _drop_alternatives(tree, origins, assignments)
    for key, value in assignments.items():
        _assign(tree, origins, key, value)
    return YamlDocument(tree, origins), tuple(notes), tuple(problems)


def _parse(override: str) -> Iterator[tuple[_Path, Any]]:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ConfigError(f"override {override!r} (from {COMMAND_LINE}): expected key=value, such as optimizer.lr=0.02")
    key = tuple(name.split("."))
    _check_key(key)
    value = read_yaml(text, lambda _line: f"{name} (from {COMMAND_LINE})").value
    yield from _flatten(key, value)


def _flatten(key: _Path, value: Any) -> Iterator[tuple[_Path, Any]]:
    """Split a mapping given for a section into its values; an empty one asks for the section with its defaults."""
    if section_keys(key) is None or not isinstance(value, dict) or not value:
        yield key, value
        return
    for name, child in value.items():
        _check_key((*key, name))
        yield from _flatten((*key, name), child)


def _check_key(key: _Path) -> None:
    section = find_section(key)
    if len(section) == len(key):
        return
    known = key[: len(section) + 1]
    if known[-1] not in (section_keys(section) or ()):
        raise ConfigError(unknown_key(key, COMMAND_LINE))
    if known == key:
        return
    if is_list(known):
        raise ConfigError(
            f"{format_key(key)} (from {COMMAND_LINE}): {format_key(known)} is a list, which is overridden as a whole: "
            f"'{format_key(known)}=[...]'"
        )
    raise ConfigError(
        f"{format_key(key)} (from {COMMAND_LINE}): {format_key(known)} is a single value and has no key "
        f"{format_key(key[len(known) :])!r}"
    )


def _drop_alternatives(tree: dict[str, Any], origins: dict[Key, str], assignments: dict[_Path, Any]) -> list[str]:
    """Drop the file's ``epochs`` where the command line gives ``max_steps``, and the like."""
    notes = []
    for pair in ALTERNATIVES:
        for given, other in (pair, pair[::-1]):
            new = {key: value for key, value in assignments.items() if key[: len(given)] == given}
            section: Any = tree
            for name in given[:-1]:
                section = section.get(name) if isinstance(section, dict) else None
            is_given = any(value not in (None, []) for value in new.values())
            if not is_given or not isinstance(section, dict) or other not in origins:
                continue
            old, origin = section.pop(other[-1], None), origins[other]
            _forget(origins, other)
            if old not in (None, []):
                for key in COMPANIONS.get(other, ()):
                    section.pop(key[-1], None)
                    _forget(origins, key)
                (key, value), *_ = new.items()
                notes.append(
                    f"{format_key(other)}: {write_flow(old)} ({origin}) gives way to {format_key(key)}: "
                    f"{write_flow(value)} ({COMMAND_LINE})"
                )
    return notes


def _assign(tree: dict[str, Any], origins: dict[Key, str], key: _Path, value: Any) -> None:
    section = tree
    for depth, name in enumerate(key[:-1], start=1):
        if section.get(name) is None:  # absent, or a section whose keys are all left out
            section[name] = {}
            origins[key[:depth]] = COMMAND_LINE
        section = section[name]
        if not isinstance(section, dict):
            return  # the file has a value where a section belongs: that is the error to report
    if value == {} and isinstance(section.get(key[-1]), dict):
        return  # it names no key, so the section keeps them all
    section[key[-1]] = value
    _forget(origins, key)
    _note_origins(origins, key, value)


def _forget(origins: dict[Key, str], key: Key) -> None:
    for other in [other for other in origins if other[: len(key)] == key]:
        del origins[other]


def _note_origins(origins: dict[Key, str], key: Key, value: Any) -> None:
    origins[key] = COMMAND_LINE
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        _note_origins(origins, (*key, name), child)


def _copy(value: Any) -> Any:
    """Copy sections; lists and values are never changed in place."""
    return {name: _copy(child) for name, child in value.items()} if isinstance(value, dict) else value
