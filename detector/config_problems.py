"""What is wrong with a configuration, in plain words, with the origin of every offending value."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from pydantic import ValidationError

from detector.config_schema import Key, all_keys, describe, find_section, format_key, name_keys, section_keys
from detector.config_yaml import write_flow

_SIMILAR = 0.6  # difflib's own default for "close"
_DOTTED = re.compile(r"[a-z_0-9]+(?:\.[a-z_0-9]+)+")
_RELATIVE = re.compile(r"(?:^|(?<= ))\.([a-z_0-9]+)")
_MAX_SHOWN = 60  # characters of a found value


def join_problems(problems: Sequence[str]) -> str:
    """Make one message of all problems; a single one stands alone."""
    if len(problems) == 1:
        return problems[0]
    listed = "".join(f"\n- {problem}" for problem in problems)
    return f"{len(problems)} errors in the configuration:{listed}"


def unknown_key(key: Key, origin: str) -> str:
    """Name an unknown key, the known ones that resemble it, and the keys of its section."""
    section = find_section(key)
    where = f"The keys of '{format_key(section)}'" if section else "The top-level keys"
    if any("." in str(part) for part in key) and format_key(key) in all_keys():
        question = " Only the command line writes keys with dots; in a file, indent it under its section."
    else:
        similar = " or ".join(repr(name) for name in _similar_keys(format_key(key)))
        question = f" Did you mean {similar}?" if similar else ""
    keys = ", ".join(section_keys(section) or ())
    return f"unknown key '{format_key(key)}' (from {origin}).{question}\n    {where} are {keys}."


def find_non_finite(value: Any, origins: Mapping[Key, str], key: Key = ()) -> Iterator[tuple[Key, str]]:
    """Yield the path of each NaN and infinity with a message; pydantic accepts them among values of any type."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield from find_non_finite(child, origins, (*key, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from find_non_finite(child, origins, (*key, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, _expected(key, "a finite number", value, origins)


def explain(error: ValidationError, tree: Mapping[str, Any], origins: Mapping[Key, str]) -> dict[Key, str]:
    """Turn pydantic's errors into plain messages, one for each offending key.

    Args:
        error: what validating ``tree`` raised.
        tree: the values as merged from the file and the command line.
        origins: origin of every value in ``tree``.
    """
    details = error.errors(include_url=False)
    keys = [_key_of(detail["loc"], detail["type"], tree) for detail in details]
    messages: dict[Key, str] = {}
    for detail, key in zip(details, keys, strict=True):
        kind = detail["type"]
        if any(other[: len(key)] == key != other for other in keys):
            # What is wrong inside has a message of its own; pydantic then also counts only the valid elements of a
            # list, and asks for the other branches of a union.
            continue
        if kind == "extra_forbidden":
            messages[key] = unknown_key(key, origins[key])
        elif kind == "value_error":
            messages[key] = _cross_check(str(detail["ctx"]["error"]), key, origins)
        elif kind == "missing" and key not in origins:
            messages[key] = f"{format_key(key)} (missing): expected {describe(key)}"
        else:  # a union has an error for each of its branches, under one key here
            messages[key] = _expected(key, describe(key), _value_at(key, tree), origins)
    return messages


def _expected(key: Key, expected: str, value: Any, origins: Mapping[Key, str]) -> str:
    return f"{format_key(key)} (from {origins[key]}): expected {expected}, found {_show(value)}"


def _similar_keys(name: str) -> list[str]:
    """Compare the whole path with all paths and the last part with all last parts; the best, with its equals."""
    others = [known for known in all_keys() if not name.startswith(f"{known}.")]  # its own section is no suggestion
    scores = {known: max(_ratio(name, known), _ratio(_leaf(name), _leaf(known))) for known in others}
    best = max(scores.values())
    equals = [known for known, score in scores.items() if score == best >= _SIMILAR]
    # `batch_size` is the last part of two keys: the nearest in the whole path comes first.
    return sorted(equals, key=lambda known: _ratio(name, known), reverse=True)[:3]


def _ratio(a: str, b: str) -> float:
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _key_of(location: Sequence[str | int], kind: str, tree: Mapping[str, Any]) -> Key:
    """Find the key in ``tree`` that pydantic's location means: without the names of union branches."""
    node: Any = tree
    key: Key = ()
    for part in location:
        known = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        if part in known:
            node = node[part]
            key = (*key, part)
        elif kind == "missing" and isinstance(node, dict):
            return (*key, part)
    return key


def _value_at(key: Key, tree: Mapping[str, Any]) -> Any:
    node: Any = tree
    for part in key:
        node = node[part]
    return node


def _cross_check(text: str, section: Key, origins: Mapping[Key, str]) -> str:
    """Insert the origins of the keys that a message of the schema's own checks names, at its beginning or later.

    Args:
        text: the message; ``.key`` stands for a key of ``section``. Without a key at its beginning it is about the
            whole section.
        section: where the check stands.
        origins: origin of every value that was given.
    """
    text = _RELATIVE.sub(lambda found: _absolute(found, section), text)
    name, colon, rest = text.partition(": ")
    if not colon or name not in all_keys():
        if not section:
            return text
        name, rest = format_key(section), text
    origin = origins.get(tuple(name.split(".")))
    others = {other: origins.get(tuple(other.split("."))) for other in _DOTTED.findall(rest)}
    named = ", ".join(f"{other} from {origin}" for other, origin in others.items() if origin)
    return f"{name} ({f'from {origin}' if origin else 'default'}): {rest}{f' ({named})' if named else ''}"


def _absolute(found: re.Match[str], section: Key) -> str:
    """Write a key of a section in full; what only looks like one, in a value that the message quotes, stays."""
    key = format_key((*section, found[1]))
    return key if key in all_keys() else found[0]


def _show(value: Any) -> str:
    if isinstance(value, str):
        text = f"the string {value!r}"
    elif isinstance(value, dict):
        text = f"a section with {name_keys(list(value))}" if value else "an empty section"
    elif value is None:
        text = "nothing (null)"
    else:
        text = write_flow(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
