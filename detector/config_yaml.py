"""YAML for configurations: read with the line of every value, and written so that it reads back identically.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): ``1e-4`` is a number, only
true and false are booleans (``on``, ``no``, ``yes`` are strings), ``010`` is ten, and there are no dates. Stricter than
YAML: keys are strings and occur once, there are no tags, and size, depth and aliases are bounded.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from detector.config_schema import Key
from detector.errors import UserError

MAX_DEPTH = 32
"""Levels of nesting; the schema has four."""
MAX_VALUES = 10_000
"""Values after expanding aliases: a recipe has some hundred, nested aliases reach billions in ten lines."""

_MAX_DIGITS = 400  # more than any float has; Python itself refuses to read integers of more than 4300
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class ConfigError(UserError):
    """A configuration is wrong: its file, its YAML, a key or a value. Names the line or the command line."""


@dataclass(frozen=True)
class YamlDocument:
    """A parsed document and where each of its values was written."""

    value: Any
    """None, bool, int, float or str, or a list or dict (with string keys) of them."""
    origins: dict[Key, str]
    """Origin of every value by its path, list elements included; the document itself has the path ``()``."""


def read_yaml(text: str, origin: Callable[[int], str]) -> YamlDocument:
    """Parse one YAML document.

    Args:
        text: the document; an empty one holds None.
        origin: turns a line number, counted from 1, into the origin that values and errors show.

    Raises:
        ConfigError: the text is not YAML, gives a key twice or uses tags, is nested deeper than `MAX_DEPTH` or holds
            more than `MAX_VALUES` values.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{origin(line)}: the character {chr(int(error.character))!a} is not allowed") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_message(error, origin)) from error
    origins: dict[Key, str] = {}
    if node is None:
        return YamlDocument(None, {(): origin(1)})
    return YamlDocument(_convert(node, (), node.start_mark.line + 1, origin, origins), origins)


def parse_plain(text: str) -> Any:
    """Read an unquoted scalar by the rules of YAML 1.2: None, bool, int, float, or else the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED_INTEGER.fullmatch(text):
        return int(text, base=0)
    return float(text) if _FLOAT.fullmatch(text) else text


def write_flow(value: Any) -> str:
    """Write a value on one line: ``[640, 672]``, ``{name: HorizontalFlip, p: 0.5}``, ``'on'``.

    :func:`read_yaml` reads the identical value back, floats to the last bit.
    """
    # As the only element of a list, because PyYAML ends a lone scalar with a document marker.
    text = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=sys.maxsize, allow_unicode=True
    )
    return text.rstrip("\n")[1:-1]


def write_yaml(tree: dict[str, Any], comment: Callable[[Key], str | None]) -> str:
    """Write a tree of sections, one value a line; lists of mappings take a line for each element.

    Args:
        tree: nested sections; a dict outside of lists is a section.
        comment: what to write behind a value, by its path; None for nothing. Called for values and their elements, not
            for sections.
    """
    lines = []
    for key, text in _write_section(tree, ()):
        note = comment(key) if key is not None else None
        lines.append(f"{text}  # {note}\n" if note else f"{text}\n")
    return "".join(lines)


def _write_section(section: dict[str, Any], path: Key) -> Iterator[tuple[Key | None, str]]:
    indent = "  " * len(path)
    for name, value in section.items():
        key = (*path, name)
        if isinstance(value, dict):
            yield None, f"{indent}{name}:"
            yield from _write_section(value, key)
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            yield key, f"{indent}{name}:"
            for index, item in enumerate(value):
                yield (*key, index), f"{indent}  - {write_flow(item)}"
        else:
            yield key, f"{indent}{name}: {write_flow(value)}"


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses tags, and nesting that would exhaust the stack."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise yaml.MarkedYAMLError(None, None, f"tags such as {_short_tag(tag)} are not allowed", event.start_mark)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes every string that a reader of YAML 1.1 or 1.2 could take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Only the double-quoted style keeps line breaks and control characters on one line.
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        is_plain_text = kind is yaml.ScalarNode and implicit[0] and tag.endswith(":str")
        return "not-a-string" if is_plain_text and not isinstance(parse_plain(value), str) else tag


_Dumper.add_representer(str, _Dumper.represent_str)


def _convert(
    node: yaml.Node, key: Key, line: int, origin: Callable[[int], str], origins: dict[Key, str], depth: int = 0
) -> Any:
    """Turn a node into plain values and note the origin of each; ``line`` is that of the key, or of the list item."""
    if len(origins) >= MAX_VALUES:
        raise ConfigError(f"{origin(line)}: more than {MAX_VALUES} values; are aliases (*name) nested?")
    if depth > MAX_DEPTH:
        raise ConfigError(f"{origin(line)}: nested more than {MAX_DEPTH} levels deep")
    origins[key] = origin(line)
    if isinstance(node, yaml.ScalarNode):
        return _read_scalar(node, origin(line))
    if isinstance(node, yaml.SequenceNode):
        return [
            _convert(item, (*key, index), item.start_mark.line + 1, origin, origins, depth + 1)
            for index, item in enumerate(node.value)
        ]
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for name_node, value_node in node.value:
        name_line = name_node.start_mark.line + 1
        name = _read_scalar(name_node, origin(name_line)) if isinstance(name_node, yaml.ScalarNode) else None
        if not isinstance(name, str):
            found = name_node.value if isinstance(name_node, yaml.ScalarNode) else "a list or mapping"
            raise ConfigError(f"{origin(name_line)}: a key must be a string, found {found}")
        if name in values:
            first = f", already given in line {lines[name]}" if lines[name] != name_line else ""
            raise ConfigError(f"{origin(name_line)}: duplicate key {name!r}{first}")
        lines[name] = name_line
        values[name] = _convert(value_node, (*key, name), name_line, origin, origins, depth + 1)
    return values


def _read_scalar(node: yaml.ScalarNode, origin: str) -> Any:
    if any("\ud800" <= character <= "\udfff" for character in node.value):
        raise ConfigError(f"{origin}: {node.value!a} holds half a character (a lone surrogate)")
    return node.value if node.style else parse_plain(node.value)


def _syntax_message(error: yaml.MarkedYAMLError, origin: Callable[[int], str]) -> str:
    mark = error.problem_mark or error.context_mark
    problem = ", ".join(part for part in (error.context, error.problem) if part)
    hint = " (indent with spaces, not tabs)" if "'\\t'" in problem else ""
    return f"{origin(mark.line + 1 if mark else 1)}: not valid YAML: {problem}{hint}"


def _short_tag(tag: str) -> str:
    prefix = "tag:yaml.org,2002:"
    return f"!!{tag.removeprefix(prefix)}" if tag.startswith(prefix) else tag
