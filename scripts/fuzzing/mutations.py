"""Valid files made wrong, a little: pure functions of a random generator."""

import random
import re
from collections.abc import Callable
from typing import Final

Mutation = Callable[[bytes, random.Random], bytes]

_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD: Final = re.compile(rb"[A-Za-z_]{3,}")
_ODD_NUMBERS: Final = (
    *(b"0", b"-1", b"1", b"2.5", b"-0.0", b"1e3", b"1e999", b"-1e999", b"nan", b"NaN", b"inf", b"Infinity"),
    *(b"99999999999999999999999", b"2147483648", b"9223372036854775808", b"0x10", b"1_000", b"true", b"null"),
    *(b"", b"' '", b'"7"', b"[]", b"{}", b"1,5", "\u0661\u0662".encode()),
)
_ODD_CHARACTERS: Final = (
    *(bytes([code]) for code in b"\0\n\r\t\"'<>&{}[]:,#!*\\/%\xff"),
    *(b"..", b"\xef\xbb\xbf", "\u202e".encode(), b"\x1b[2J", b"- ", b"? "),
    *(b"<!DOCTYPE a>", b"&lol;", b"!!python/name:os.system "),
)


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 4, 32))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def delete_span(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def repeat_span(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def clear_span(data: bytes, rng: random.Random) -> bytes:
    start, end = _span(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def insert_noise(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randrange(1, 40)) + data[place:]


def append_noise(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randrange(1, 40))


def replace_number(data: bytes, rng: random.Random) -> bytes:
    return _replace(_NUMBER, data, rng.choice(_ODD_NUMBERS), rng)


def change_word(data: bytes, rng: random.Random) -> bytes:
    matches = list(_WORD.finditer(data))
    if not matches:
        return flip_bits(data, rng)
    match = rng.choice(matches)
    word = bytearray(match.group())
    word[rng.randrange(len(word))] = rng.choice(b"aZ_x0 -")
    return data[: match.start()] + bytes(word) + data[match.end() :]


def insert_character(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(_ODD_CHARACTERS) + data[place:]


def delete_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def repeat_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return b"".join(lines)


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def encode_otherwise(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("latin-1")
    return rng.choice((text.encode("utf-16"), text.replace("\n", "\r\n").encode("latin-1"), b"\xef\xbb\xbf" + data))


def empty(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\n", b" ", data[:1]))


BINARY: Final[tuple[Mutation, ...]] = (
    flip_bits, flip_bits, cut_off, delete_span, repeat_span, clear_span, insert_noise, append_noise, empty
)  # fmt: skip
TEXT: Final[tuple[Mutation, ...]] = (
    replace_number, replace_number, replace_number, change_word, change_word, insert_character, insert_character,
    delete_line, repeat_line, swap_lines, encode_otherwise, *BINARY,
)  # fmt: skip


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 2, 8, 60, 1000)))


def _replace(pattern: "re.Pattern[bytes]", data: bytes, text: bytes, rng: random.Random) -> bytes:
    matches = list(pattern.finditer(data))
    if not matches:
        return flip_bits(data, rng)
    match = rng.choice(matches)
    return data[: match.start()] + text + data[match.end() :]
