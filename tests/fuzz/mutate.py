"""Damage to bytes, the same for the same random generator."""

import random
import re

INTEGERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**64 - 1,
)
WORDS = (
    b"-1",
    b"0",
    b"1",
    b"3.5",
    b"1000000000000",
    b"18446744073709551616",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
    b"../x",
    b"|O",
)
HEAD = 600


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return damaged content: a few changes, more often in the first bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        at = rng.randrange(min(len(data), HEAD)) if rng.random() < 0.6 else rng.randrange(len(data))
        rng.choice(CHANGES)(data, at, rng)
    return bytes(data)


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _integer(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    at -= at % rng.choice((1, size))
    value = rng.choice(INTEGERS) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _cut(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.choice((1, 2, 8, 100))]


def _end(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at:]


def _repeat(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = data[at : at + rng.choice((1, 4, 64))]


def _noise(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice((2, 8, 32))
    data[at : at + size] = rng.randbytes(size)


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    """Replace a number in a text."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?|null|true|false", bytes(data[:4096])))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = rng.choice(WORDS)


CHANGES = (_flip, _flip, _byte, _integer, _integer, _integer, _cut, _end, _repeat, _noise, _number, _number)
