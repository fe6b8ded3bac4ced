"""Checks of faults, wherever in a spec they stand."""

from __future__ import annotations

import errno

from scenarios.language import steps
from scenarios.language.problems import Place, Problems

MOST_FAULTS = 1000
# What a server can say over NBD and every QEMU takes as it is.
OVER_NBD = ("EIO", "EINVAL", "ENOMEM", "ENOSPC", "EPERM")
_MILLISECOND_NS = 1_000_000
_LONGEST_DELAY_NS = 10_000_000_000
_OF_REQUESTS = {"on": "write", "error": "EIO", "skip": 0, "times": 1}


def disk(problems: Problems, place: Place, fault: steps.Fault) -> None:
    """A fault of a disk's storage: one effect, and nothing that does not go with it."""
    add = problems.add
    if len(fault.effects) > 1:
        add(place, f"expected one of {', '.join(steps.FAULT_EFFECTS)}, got {' and '.join(fault.effects)}")
        return
    if fault.counts:
        storage(problems, place, fault)
        if fault.over is not None and fault.error not in OVER_NBD:
            add((*place, "error"), f'over NBD expected {", ".join(OVER_NBD)}, got "{fault.error}"')
        return
    effect = fault.effects[0]
    for name, default in _OF_REQUESTS.items():
        if getattr(fault, name) != default:
            add((*place, name), f"belongs to requests that fail, and this fault is {effect}")
    if effect == "mend" and fault.over is not None:
        add((*place, "over"), "storage is mended whatever the fault was: leave this out")
    if effect == "rate":
        if fault.over is None:
            add((*place, "rate"), "needs over: nbd: it is an NBD server that is so slow")
        if fault.rate is not None and fault.rate < 1:
            add((*place, "rate"), f"expected one byte a second or more, got {fault.rate}")
    if fault.delay is not None and (
        fault.delay % _MILLISECOND_NS or not 0 < fault.delay <= _LONGEST_DELAY_NS
    ):
        add((*place, "delay"), f"expected whole milliseconds, from 1ms to 10s, got {fault.delay} ns")


def storage(problems: Problems, place: Place, fault: steps.StorageFault) -> None:
    add = problems.add
    if fault.error not in errno.errorcode.values():
        add((*place, "error"), f'expected an errno such as EIO or ENOSPC, got "{fault.error}"')
    if not 1 <= fault.times <= MOST_FAULTS:
        add((*place, "times"), f"expected a number from 1 to {MOST_FAULTS}, got {fault.times}")
    if not 0 <= fault.skip <= MOST_FAULTS:
        add((*place, "skip"), f"expected a number from 0 to {MOST_FAULTS}, got {fault.skip}")
    if fault.skip and fault.on in ("discard", "flush"):
        add((*place, "skip"), f"a {fault.on} cannot be counted, only read, write and write-zeroes")
