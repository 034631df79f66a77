"""XML from strangers: what is read of it, and what is refused."""

import time
from pathlib import Path

import pytest

from detector.data.formats import xml_tree
from detector.data.formats.xml_tree import read_xml
from detector.errors import UserError
from tests.data.formats.files import write

LAUGHS = (
    '<!DOCTYPE a [<!ENTITY e0 "ha">'
    + "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    + "]><annotation>&e11;</annotation>"
)


def test_elements_have_their_text_children_and_lines(tmp_path: Path) -> None:
    root = read_xml(write(tmp_path / "a.xml", "\ufeff<a>\r\n  <b> x &amp; <![CDATA[<y>]]>\tz </b>\r\n<b>2</b><c/></a>"))
    assert [(child.tag, child.line, child.text) for child in root.children] == [
        ("b", 2, "x & <y>\tz"),
        ("b", 3, "2"),
        ("c", 3, ""),
    ]
    assert root.find("b") is root.children[0]
    assert root.find("d") is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_a_file_may_declare_its_encoding(tmp_path: Path, encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><name>Äpfel</name>'
    assert read_xml(write(tmp_path / "a.xml", text.encode(encoding))).text == "Äpfel"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_that_expand_without_end_are_refused_at_once(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.xml", LAUGHS.encode(encoding))
    start = time.monotonic()
    with pytest.raises(UserError, match=r"a\.xml:1: a document type .* is not allowed"):
        read_xml(path)
    assert time.monotonic() - start < 5  # ten to the eleventh power of "ha" would take hours


def test_an_entity_that_reads_a_file_is_refused(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.txt", "secret")
    path = write(tmp_path / "a.xml", f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>\n<a>&e;</a>')
    with pytest.raises(UserError, match="a document type"):
        read_xml(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"a\.xml: the file is empty, expected XML"),
        (b" \n", r"a\.xml: the file is empty, expected XML"),
        (b"<a>\n<b></a>", r"a\.xml:2:6: no valid XML: mismatched tag"),
        (b"<a>", r"a\.xml:1:4: no valid XML: no element found"),
        (b"<a>&nope;</a>", r"no valid XML: undefined entity"),
        (b"<a>\xff</a>", r"no valid XML: not well-formed"),
        (b"<a>\x00</a>", r"no valid XML: not well-formed"),
        (b"not xml", r"a\.xml:1:1: no valid XML: syntax error"),
        (b'<?xml version="1.0" encoding="none"?><a/>', r"no valid XML: unknown encoding"),
        (b'<?xml version="1.0" encoding="big5"?><a/>', r"no valid XML: "),
        (b"<a>" * 100_000, r"a\.xml:1: more than 64 elements inside each other"),
    ],
)
def test_what_is_no_xml_is_an_error_with_its_place(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_xml(write(tmp_path / "a.xml", data))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_tree, "MAX_BYTES", 10)
    with pytest.raises(UserError, match=r"a\.xml: has 11 bytes, expected at most 10"):
        read_xml(write(tmp_path / "a.xml", "<a>bcde</a>"))


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no regular file"):
        read_xml(tmp_path)
