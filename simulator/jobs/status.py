"""The life of a job as two tables: which status may follow which, and which command which status takes.

Source: JobSTT and JobVerbTable, job.c:59-87, 7.2. Code looks up here and decides nothing of its own.
"""

from __future__ import annotations

from simulator.block.errors import QmpError

# QAPI JobStatus, in the order of the schema.
STATUSES = (
    "undefined", "created", "running", "paused", "ready", "standby", "waiting", "pending", "aborting",
    "concluded", "null",
)  # fmt: skip

# Status -> those that may follow it. A job that is "aborting" may enter that again; there is no event then.
TRANSITIONS: dict[str, tuple[str, ...]] = {
    "undefined": ("created",),
    "created": ("running", "aborting", "null"),
    "running": ("paused", "ready", "waiting", "aborting"),
    "paused": ("running",),
    "ready": ("standby", "waiting", "aborting"),
    "standby": ("ready",),
    "waiting": ("pending", "aborting"),
    "pending": ("aborting", "concluded"),
    "aborting": ("aborting", "concluded"),
    "concluded": ("null",),
    "null": (),
}

_ALIVE = ("created", "running", "paused", "ready", "standby")

# QAPI JobVerb -> the statuses in which a job takes it.
VERBS: dict[str, tuple[str, ...]] = {
    "cancel": (*_ALIVE, "waiting", "pending"),
    "pause": _ALIVE,
    "resume": _ALIVE,
    "set-speed": _ALIVE,
    "complete": ("ready", "standby"),
    "finalize": ("pending",),
    "dismiss": ("concluded",),
}

# Statuses of a job whose coroutine has ended (job_is_completed).
COMPLETED = ("waiting", "pending", "aborting", "concluded", "null")

READY = ("ready", "standby")


def check_transition(job_id: str, before: str, after: str) -> None:
    """A move that the table does not have is a defect of the simulator, as it is an assertion in QEMU."""
    if after not in TRANSITIONS[before]:
        raise AssertionError(f"job '{job_id}' cannot go from {before} to {after}")


def check_verb(verbs: dict[str, tuple[str, ...]], job_id: str, status: str, verb: str) -> None:
    """Raises QmpError if a job in `status` does not take `verb`. `verbs` is the version's table."""
    if status not in verbs[verb]:
        raise QmpError(f"Job '{job_id}' in state '{status}' cannot accept command verb '{verb}'")
