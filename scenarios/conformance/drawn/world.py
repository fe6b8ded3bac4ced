"""What a drawn session has asked for so far, and what of it is chosen among."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from scenarios.conformance.session import Step
from scenarios.language.steps import Disk

DISK_BYTES = 1 << 20
_NONSENSE = ("nope", "", "#block1", "1a", "vda-file")
_SPOTS = (0, 512, 4096, 65536, 65536 - 512, DISK_BYTES - 512, DISK_BYTES - 65536, DISK_BYTES // 2)
_LENGTHS = (512, 4096, 65536, 65536 + 512, 1 << 17, 1 << 18)
Arguments = dict[str, Any]


class World:
    """What a session has asked for so far. `steps` grows with each move."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.attach: Any = rng.choice(("device", "drive", "none"))
        names = ("vda", "vdb")[: rng.choice((1, 1, 2))]
        self.disks = {name: self._disk() for name in names}
        self.steps: list[Step] = []
        top = "{}-format" if self.attach == "drive" else "{}"
        self.nodes = [top.format(name) for name in names] if self.attach != "none" else []
        self.files: list[str] = []
        self.bitmaps: list[tuple[str, str]] = []
        self.jobs: list[str] = []
        self.exports: list[str] = []
        self.devices: list[str] = []  # that were added
        self.listens = False

    def _disk(self) -> Disk:
        form: Any = self.rng.choice(("raw", "qcow2"))
        cluster = self.rng.choice((None, None, 4096)) if form == "qcow2" else None
        return Disk(size=DISK_BYTES, format=form, cluster=cluster)

    # -- what is said
    def send(self, command: str, arguments: Arguments | None = None) -> None:
        said: Arguments = {"execute": command}
        if arguments is not None:
            said["arguments"] = arguments
        self.steps.append(Step("send", said))

    def do(self, verb: str, what: Any) -> None:
        self.steps.append(Step(verb, what))

    # -- what is chosen
    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def one(self, those: Sequence[Any], otherwise: Any = "nope") -> Any:
        return self.rng.choice(those) if those else otherwise

    def node(self) -> str:
        if self.chance(0.06) or not self.nodes:
            return self.rng.choice(_NONSENSE)
        return self.rng.choice(self.nodes)

    def new_name(self, prefix: str) -> str:
        return f"{prefix}{self.rng.randrange(6)}"

    def new_node(self) -> str:
        name = self.new_name("n") if not self.chance(0.03) else self.node()
        if name not in self.nodes and name not in _NONSENSE:
            self.nodes.append(name)
        return name

    def new_object(self) -> str:
        """A throttle group's or a thread's, whether it is there or not."""
        return self.rng.choice(("tg0", "tg0", "tg1", "io0", "io0", "io1"))

    def new_job(self) -> str:
        name = self.new_name("j")
        if name not in self.jobs:
            self.jobs.append(name)
        return name

    def job(self) -> str:
        return "nope" if self.chance(0.05) else self.one(self.jobs)

    def bitmap(self) -> tuple[str, str]:
        """(node, name)"""
        if self.chance(0.08) or not self.bitmaps:
            return self.node(), self.new_name("b")
        return self.rng.choice(self.bitmaps)

    def some(self, choices: Mapping[str, Sequence[Any]], probability: float = 0.2) -> Arguments:
        """Some of these members, each with one of its values."""
        return {name: self.rng.choice(values) for name, values in choices.items() if self.chance(probability)}

    def spot(self) -> tuple[int, int]:
        """(offset, length), inside the disk nearly always."""
        at, length = self.rng.choice(_SPOTS), self.rng.choice(_LENGTHS)
        if at + length > DISK_BYTES and not self.chance(0.1):
            length = DISK_BYTES - at
        return at, length
