"""XML files as small trees of elements with line numbers, safe to read from strangers.

The standard library's expat does the reading. A document type is refused: it is where entities are declared, which
expand without end ("billion laughs") or read other files.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.parsers import expat

from detector.data.formats.text_files import read_bytes
from detector.errors import UserError

MAX_BYTES: Final = 16 << 20
"""Largest file that is read: some 50,000 objects in one image."""

_MAX_DEPTH = 64


@dataclass(slots=True)
class Element:
    """An XML element.

    Attributes:
        tag: its name.
        line: where it starts, from 1 on.
        text: what stands in it before its first child, white space around it removed.
        children: elements in it.
    """

    tag: str
    line: int
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def find(self, tag: str) -> "Element | None":
        """Return the first child with a name, None where there is none."""
        for child in self.children:
            if child.tag == tag:
                return child
        return None


def read_xml(path: Path) -> Element:
    """Read an XML file.

    Returns:
        Its root.

    Raises:
        UserError: the file cannot be read, is larger than MAX_BYTES, is no XML, or declares a document type.
    """
    data = read_bytes(path, MAX_BYTES)
    if not data.strip():
        raise UserError(f"{path}: the file is empty, expected XML")
    parser = expat.ParserCreate()
    parser.buffer_text, parser.buffer_size = True, 1 << 16
    document = Element("", 0)
    open_elements = [document]

    def start(tag: str, _attributes: dict[str, str]) -> None:
        if len(open_elements) > _MAX_DEPTH:
            raise UserError(f"{path}:{parser.CurrentLineNumber}: more than {_MAX_DEPTH} elements inside each other")
        element = Element(tag, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_tag: str) -> None:
        element = open_elements.pop()
        element.text = element.text.strip()

    def text(characters: str) -> None:
        element = open_elements[-1]
        if not element.children:
            element.text += characters

    def refuse(*_declaration: object) -> None:
        raise UserError(f"{path}:{parser.CurrentLineNumber}: a document type (<!DOCTYPE ...>) is not allowed")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.errors.messages.get(error.code, str(error))
        raise UserError(f"{path}:{error.lineno}:{error.offset + 1}: no valid XML: {reason}") from error
    except (ValueError, LookupError) as error:  # an encoding that expat does not know or Python cannot give it
        raise UserError(f"{path}: no valid XML: {error}") from error
    finally:  # the functions hold the parser and the parser holds them
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
        parser.StartDoctypeDeclHandler = None
    return document.children[0]
