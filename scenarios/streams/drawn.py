"""One input of many: its parts, and how it is cut. What all wires' inputs are mutated with."""

from __future__ import annotations

import random
from typing import NamedTuple

_ODD_BYTES = bytes.fromhex("00 01 09 0a 0d 1f 20 22 27 2c 3a 5b 5c 5d 7b 7d 7f 80 c0 c3 e2 ed f0 fe ff")
_LONGEST_NOISE = 40
_CUTS = (0, 0, 0, 1, 2, 7, 13, 28, 29)


class Input(NamedTuple):
    """`parts` are said one after the other; what is drawn as a unit is one part. The simulator is handed so
    many bytes of a part at once; 0: all of it."""

    parts: tuple[bytes, ...]
    cut_bytes: int = 0

    @property
    def payload(self) -> bytes:
        return b"".join(self.parts)

    def pieces(self) -> list[list[bytes]]:
        """Each part as it is handed over."""
        step = self.cut_bytes
        return [
            [part[at : at + step] for at in range(0, len(part), step)] if step else [part]
            for part in self.parts
        ]


def cut(rng: random.Random) -> int:
    return rng.choice(_CUTS)


def noise(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return rng.randbytes(rng.randint(1, _LONGEST_NOISE))
    return bytes(rng.choices(_ODD_BYTES, k=rng.randint(1, 12)))


def altered(rng: random.Random, part: bytes) -> bytes:
    """A byte of it is another, or it is cut off, or some of it comes twice, or something comes between."""
    at = rng.randint(0, len(part))
    way = rng.randrange(5)
    if way == 0 and at < len(part):
        return part[:at] + bytes((rng.randrange(256),)) + part[at + 1 :]
    if way == 1:
        return part[:at]
    if way == 2:
        return part[:at] + part[rng.randint(0, at) :]
    if way == 3 and at < len(part):
        return part[:at] + bytes((part[at] ^ 1 << rng.randrange(8),)) + part[at + 1 :]
    return part[:at] + noise(rng) + part[at:]


def shuffled(rng: random.Random, parts: list[bytes], spare: list[bytes]) -> list[bytes]:
    """As many changes as are drawn: a part is left out, comes twice, is altered, changes places with its
    neighbour or is another one, of `spare`."""
    parts = list(parts)
    while parts and rng.random() < 0.6:
        at = rng.randrange(len(parts))
        way = rng.randrange(6)
        if way == 0:
            del parts[at]
        elif way == 1:
            parts.insert(at, parts[at])
        elif way == 2:
            parts[at] = altered(rng, parts[at])
        elif way == 3 and at:
            parts[at - 1], parts[at] = parts[at], parts[at - 1]
        elif way == 4:
            parts[at] = rng.choice(spare)
        else:
            parts.insert(at, rng.choice(spare))
    return parts
