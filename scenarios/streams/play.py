"""Gives inputs to machines of a backend, one machine after the other where one ends."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import NamedTuple, cast

from scenarios.backends.interface import Backend, DeadlinePassed, MachineGone, Session, SetupError
from scenarios.backends.sim_session import SimSession
from scenarios.language.steps import Scenario
from scenarios.streams.drawn import Input
from scenarios.streams.interface import Answer, Wire

_SCENARIO = Scenario(name="streams", attach="none")
EXCEPTION = "exception"
_END_NS = 10_000_000_000


class Played(NamedTuple):
    """`answers` of as many inputs as got one. `ended`: what became of the machine at the next; "" if all
    did."""

    answers: list[Answer]
    ended: str = ""


def on_simulator(backend: Backend, wire: Wire, inputs: Sequence[Input]) -> Played:
    """In one machine, until all are answered or an exception escapes. Raises SetupError."""
    answers: list[Answer] = []

    async def body(session: Session) -> None:
        await wire.prepare(session)
        await wire.simulated(cast(SimSession, session), inputs, answers)

    try:
        backend.run(_SCENARIO, 0, body)
    except SetupError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('/')[2]}, {last.name}"
        return Played(answers, f"{EXCEPTION} {type(error).__name__} from {where}: {error}")
    return Played(answers)


def on_real(backend: Backend, wire: Wire, inputs: Sequence[Input], expected: Sequence[Answer]) -> Played:
    """In one machine, until all are answered, it ends, or it is silent. Raises SetupError."""
    answers: list[Answer] = []
    ended = ""

    async def body(session: Session) -> None:
        nonlocal ended
        await wire.prepare(session)
        try:
            await wire.real(session, inputs, expected, answers)
            # An end takes its time: only a machine that answers has outlived the last of them.
            await session.qmp("query-version")
        except DeadlinePassed as error:
            ended = f"hung: {error}"
        except MachineGone:
            status, said = await session.wait_end(_END_NS)
            ended = f"status {status}: {_last_line(said)}"

    backend.has_watched_monitor = True
    backend.run(_SCENARIO, 0, body)
    # What was answered by a machine that then ended is what it ended at.
    return Played(answers[: len(inputs) - bool(ended)], ended)


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1] if lines else "(nothing on standard error)"
