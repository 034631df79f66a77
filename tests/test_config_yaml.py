"""YAML is read by the rules of version 1.2, with the line of every value, and written so that it reads back."""

import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.config_yaml import MAX_DEPTH, MAX_VALUES, ConfigError, parse_plain, read_yaml, write_flow, write_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda child: st.lists(child, max_size=4) | st.dictionaries(st.text(), child, max_size=4), max_leaves=12
)


def read(text: str):
    return read_yaml(text, lambda line: f"x.yaml:{line}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e2", -50.0),
        ("+12", 12),
        ("010", 10),
        ("0o10", 8),
        ("0x1f", 31),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026-11-22", "2026-11-22"),
        ("=", "="),
        ("1e", "1e"),
        (".", "."),
        ("0b1", "0b1"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text, expected):
    assert parse_plain(text) == expected
    assert type(parse_plain(text)) is type(expected)
    assert read(f"key: {text}\n").value == {"key": expected}


def test_nan_is_read_as_a_number():
    assert math.isnan(parse_plain(".nan"))


@pytest.mark.parametrize("text", ["'1e-4'", '"1e-4"', "|-\n  1e-4", ">-\n  1e-4"])
def test_quoted_and_block_scalars_are_strings(text):
    assert read(f"key: {text}\n").value == {"key": "1e-4"}


def test_every_value_has_the_line_of_its_key_or_list_item():
    text = "# a comment\na: 1\nb:\n  c:\n    - 1\n    - {name: Flip,\n       p: 0.5}\n  d:\n    long\n"
    document = read(text)
    assert document.value == {"a": 1, "b": {"c": [1, {"name": "Flip", "p": 0.5}], "d": "long"}}
    assert {key: int(origin.removeprefix("x.yaml:")) for key, origin in document.origins.items()} == {
        (): 2,
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "c", 0): 5,
        ("b", "c", 1): 6,
        ("b", "c", 1, "name"): 6,
        ("b", "c", 1, "p"): 7,
        ("b", "d"): 8,
    }


def test_an_alias_has_the_value_of_its_anchor_and_its_own_line():
    document = read("a: &x [1, 2]\nb: *x\n")
    assert document.value == {"a": [1, 2], "b": [1, 2]}
    assert document.origins[("b",)] == "x.yaml:2"


def test_an_empty_document_holds_none():
    assert read("").value is None
    assert read("# only a comment\n").value is None


def test_merge_keys_are_ordinary_keys():
    assert read("a: &x {k: 1}\nb:\n  <<: *x\n").value["b"] == {"<<": {"k": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"x\.yaml:3: duplicate key 'a', already given in line 1"),
        ("a: {b: 1, b: 2}\n", r"x\.yaml:1: duplicate key 'b'$"),
        ("a: 1\n'a': 2\n", r"x\.yaml:2: duplicate key 'a', already given in line 1"),
        (
            "a: 1\nb: !!python/object/apply:os.system [ls]\n",
            r"x\.yaml:2: .*tags such as !!python/object/apply:os\.system",
        ),
        ("a: !mine 3\n", r"x\.yaml:1: .*tags such as !mine are not allowed"),
        ("a: !!float 3\n", r"x\.yaml:1: .*tags such as !!float are not allowed"),
        ("!!map {}\n", r"x\.yaml:1: .*tags such as !!map are not allowed"),
        ("a: 1\n3: 4\n", r"x\.yaml:2: a key must be a string, found 3"),
        ("a:\n  ? [1, 2]\n  : 3\n", r"x\.yaml:2: a key must be a string, found a list or mapping"),
        ("a: [1\nb: 2\n", r"x\.yaml:2: not valid YAML: while parsing a flow sequence"),
        ("a:\n\tb: 1\n", r"x\.yaml:2: not valid YAML: .*\(indent with spaces, not tabs\)"),
        ("a: 1\n---\nb: 2\n", r"x\.yaml:2: not valid YAML: .*single document"),
        ("a: *nowhere\n", r"x\.yaml:1: not valid YAML: found undefined alias"),
        ("a: 1\nb: \x00\n", r"x\.yaml:2: the character '\\x00' is not allowed"),
        ('a: 1\nb: "\\ud800"\n', r"x\.yaml:2: '\\ud800' holds half a character"),
        ("a: " + "[" * 5000, rf"x\.yaml:1: .*nested more than {MAX_DEPTH} levels deep"),
        ("a: &a [*a]\n", rf"x\.yaml:1: nested more than {MAX_DEPTH} levels deep"),
    ],
)
def test_wrong_documents_name_their_line(text, message):
    with pytest.raises(ConfigError, match=message):
        read(text)


def test_nested_aliases_cannot_exhaust_the_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match=rf"x\.yaml:\d+: more than {MAX_VALUES} values; are aliases .* nested\?"):
        read("\n".join(lines))


@settings(deadline=None, max_examples=200, derandomize=True)
@given(VALUES)
def test_written_values_take_one_line_and_read_back_identically(value):
    text = write_flow(value)
    assert "\n" not in text
    document = read_yaml(f"key: {text}\n", str)
    assert repr(document.value) == repr({"key": value})  # repr tells 1 from 1.0 and 0.0 from -0.0


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.text() | st.sampled_from(["on", "No", "1e5", "0o7", "1:30", "~", "", "2026-11-22", "1_0", "=", "<<"]))
def test_written_strings_are_strings_to_readers_of_yaml_1_1_and_1_2(text):
    assert read(f"key: {write_flow(text)}\n").value == {"key": text}
    assert yaml.safe_load(f"key: {write_flow(text)}\n") == {"key": text}


def test_trees_are_written_with_a_comment_behind_each_value():
    tree = {"a": {"b": 1e-5, "c": [1, 2]}, "d": [{"name": "Flip", "p": 0.5}, {"name": "Blur"}], "e": []}
    text = write_yaml(tree, lambda key: ".".join(map(str, key)))
    assert text == (
        "a:\n  b: 1.0e-05  # a.b\n  c: [1, 2]  # a.c\n"
        "d:  # d\n  - {name: Flip, p: 0.5}  # d.0\n  - {name: Blur}  # d.1\n"
        "e: []  # e\n"
    )
    assert read(text).value == tree
    assert "#" not in write_yaml(tree, lambda _key: None)
