"""What the schema allows at a key, in plain words: its keys, its types and ranges.

Everything is read from the JSON schema that pydantic derives from :class:`detector.config.Config`, so that no message
can disagree with the check behind it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from detector.config import Config

Key: TypeAlias = tuple[str | int, ...]
"""Path of a value: names of sections and keys, and positions in lists, such as ``("data", "augment", 0, "p")``."""

_Node: TypeAlias = Mapping[str, Any]


def format_key(key: Key) -> str:
    """Write a key as it is written in messages: ``data.augment[0].p``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def name_keys(names: Sequence[str]) -> str:
    """Write ``the keys name, p``, or ``the key decay``."""
    return f"the key{'' if len(names) == 1 else 's'} {', '.join(names)}"


def section_keys(key: Key) -> tuple[str, ...] | None:
    """List the keys of a section, in the order of the schema; None where ``key`` is no section."""
    node = _find(key)
    return tuple(node["properties"]) if node is not None and "properties" in node else None


def find_section(key: Key) -> Key:
    """Find the innermost section of the schema that ``key`` is in, or is; ``()`` is the whole configuration."""
    return next(key[:end] for end in range(len(key), -1, -1) if section_keys(key[:end]) is not None)


def is_list(key: Key) -> bool:
    """Tell whether ``key`` holds a list."""
    node = _find(key)
    return node is not None and any(option.get("type") == "array" for option in _options(node))


@cache
def all_keys() -> tuple[str, ...]:
    """List every section and value of the schema, dotted: ``("output_dir", ..., "data", "data.train", ...)``."""
    return tuple(".".join(path) for path in _walk(_schema(), ()))


def describe(key: Key) -> str:
    """Say what is expected at ``key``: ``auto or an integer of at least 1``.

    Args:
        key: a value or section of the schema; anything for a key that the schema leaves open.
    """
    node = _find(key)
    return "any value" if node is None else _describe(node)


@cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()


def _resolve(node: _Node) -> _Node:
    """Follow a reference to a section, also to one that may be null."""
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1 and "$ref" in options[0]:
        node = options[0]
    if "$ref" not in node:
        return node
    section: _Node = _schema()["$defs"][node["$ref"].rpartition("/")[2]]
    return section


def _options(node: _Node) -> list[_Node]:
    """Return the alternatives of a union, or the node itself."""
    return [_resolve(option) for option in node.get("anyOf", [node])]


def _find(key: Key) -> _Node | None:
    node: _Node = _schema()
    for part in key:
        for option in _options(node):
            if isinstance(part, str):
                child = option.get("properties", {}).get(part)
            else:
                child = dict(enumerate(option.get("prefixItems", ()))).get(part, option.get("items"))
            if child is not None:
                node = _resolve(child)
                break
        else:
            return None
    return node


def _walk(node: _Node, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, child in _resolve(node).get("properties", {}).items():
        yield (*path, name)
        yield from _walk(child, (*path, name))


def _describe(node: _Node) -> str:
    node = _resolve(node)
    if "anyOf" in node:
        return _join([_describe(option) for option in node["anyOf"]])
    if "enum" in node:
        return _join([str(choice) for choice in node["enum"]])
    if "const" in node:
        return str(node["const"])
    if "properties" in node:
        return f"a section with {name_keys(list(node['properties']))}"
    match node.get("type"):
        case "integer":
            return "an integer" + _range(node)
        case "number":
            return "a number" + _range(node)
        case "string":
            return "a string that is not empty" if node.get("minLength") else "a string"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case "array":
            return _describe_list(node)
        case "object":
            return "a mapping {key: value, ...}"
        case _:
            return "any value"


def _describe_list(node: _Node) -> str:
    low, high = node.get("minItems"), node.get("maxItems")
    length = f" of {low} values" if low is not None and low == high else " of at least one value" if low else ""
    item = node["prefixItems"][0] if "prefixItems" in node else node["items"]
    return f"a list{length}, each {_describe(item)}"


def _range(node: _Node) -> str:
    """Say the bounds of a number: `` from 0 to 1``, `` of at least 0 and below 1``."""
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    words = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "of at most",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{word} {node[name]}" for name, word in words.items() if name in node]
    return "".join(f" {'and ' if i else ''}{bound}" for i, bound in enumerate(bounds))


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
