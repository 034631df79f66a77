"""A YAML file that is one mapping, with the line of each value and every scalar as it is written.

Class names such as ``no``, ``1`` or ``null`` are text here, which YAML's own rules would make something else of.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

from detector.data.formats.text_files import quote, read_text
from detector.errors import UserError


@dataclass(frozen=True, slots=True)
class YamlValue:
    """A value, for reading and for messages.

    Attributes:
        path: the file.
        key: its key at the top level.
        node: what PyYAML made of it.
    """

    path: Path
    key: str
    node: yaml.Node

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.path}:{self.node.start_mark.line + 1}"

    def texts(self, expected: str) -> list[str]:
        """Return the text that it is, as the only entry, or the texts of the list that it is.

        Args:
            expected: what the message says it should be.

        Raises:
            UserError: it is something else.
        """
        nodes = self.node.value if isinstance(self.node, yaml.SequenceNode) else [self.node]
        return [self._text(node, expected) for node in nodes]

    def pairs(self, expected: str) -> list[tuple[str, str]]:
        """Return the keys and texts of the mapping that it is.

        Args:
            expected: what the message says it should be.

        Raises:
            UserError: it is no mapping, or a key or value is no text.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self._error(self.node, expected)
        return [(self._text(key, expected), self._text(value, expected)) for key, value in self.node.value]

    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    def is_empty(self) -> bool:
        """Whether nothing, or YAML's null, stands there."""
        return self.node.tag == "tag:yaml.org,2002:null"

    def _text(self, node: yaml.Node, expected: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, expected)
        text: str = node.value
        return text

    def _error(self, node: yaml.Node, expected: str) -> UserError:
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        found = quote(node.value) if isinstance(node, yaml.ScalarNode) else kind
        return UserError(f"{self.path}:{node.start_mark.line + 1}: '{self.key}' is {found}, expected {expected}")


def read_yaml_mapping(path: Path) -> dict[str, YamlValue]:
    """Read a YAML file with a mapping at its top level; null counts as absent.

    Raises:
        UserError: the file cannot be read, is no YAML or no mapping, or has a key twice.
    """
    try:
        root = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: no valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: no 'key: value' lines, expected the keys train, val and names")
    values: dict[str, YamlValue] = {}
    for key, node in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        value = YamlValue(path, name, node)
        if name in values:
            raise UserError(f"{path}:{key.start_mark.line + 1}: key '{name}' stands there twice")
        values[name] = value
    return {name: value for name, value in values.items() if not value.is_empty()}
