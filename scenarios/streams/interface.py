"""What came of inputs, and what a wire is: how its inputs are drawn, said to a machine, and judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from scenarios.backends.interface import Session
from scenarios.backends.sim_session import SimSession
from scenarios.streams.drawn import Input

REPLY_NS = 10_000_000_000


class Answer(NamedTuple):
    """What the machine sent after each part, and at last what it sent before it closed or was asked for the
    next input. `complaint`: what is wrong with the answer, whatever a real QEMU says. `foretells_end`: the
    simulator knows that the process of QEMU ends here."""

    steps: tuple[bytes, ...]
    complaint: str = ""
    foretells_end: bool = False

    @property
    def whole(self) -> bytes:
        return b"".join(self.steps)


class Wire(ABC):
    """One kind of stream. A conversation appends an answer to `answers` for each input, in order; when it
    raises, the input that it is at has none."""

    name: str

    @abstractmethod
    def draw(self, seed: int) -> Input: ...

    @abstractmethod
    async def prepare(self, session: Session) -> None:
        """What every machine has before the first input."""

    @abstractmethod
    async def simulated(self, session: SimSession, inputs: Sequence[Input], answers: list[Answer]) -> None:
        """All of them in this process, each judged."""

    @abstractmethod
    async def real(
        self, session: Session, inputs: Sequence[Input], expected: Sequence[Answer], answers: list[Answer]
    ) -> None:
        """`expected` are the simulator's answers: where an end of input would cut a real answer off, they
        tell how much is waited for. Raises DeadlinePassed, MachineGone."""

    @abstractmethod
    def comparable(self, answer: bytes) -> bytes:
        """The same for answers that are equal but for times, and for the order of what QEMU does at once."""
