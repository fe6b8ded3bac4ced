"""Checks of faults, wherever in a spec they stand."""

from __future__ import annotations

import errno

import msgspec

from scenarios.language import steps
from scenarios.language.problems import Place, Problems

MOST_FAULTS = 1000
KINDS = ("disk", "stop", "monitor")
# Less than what any wait for the machine takes.
LONGEST_STOP_NS = 20_000_000_000
# What a server can say over NBD and every QEMU takes as it is.
OVER_NBD = ("EIO", "EINVAL", "ENOMEM", "ENOSPC", "EPERM")
_MILLISECOND_NS = 1_000_000
_LONGEST_DELAY_NS = 10_000_000_000
_STORAGE = {field.name: field.default for field in msgspec.structs.fields(steps.StorageFault)}


def fault(problems: Problems, place: Place, fault: steps.Fault) -> None:
    """Everything but whether there is such a disk."""
    given = [name for name in KINDS if getattr(fault, name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        problems.add(place, f"expected exactly one of {', '.join(KINDS)}, got {got}")
    if fault.disk is not None:
        _disk(problems, place, fault)
    elif any(getattr(fault, name) != default for name, default in _STORAGE.items()):
        problems.add(place, "requests fail at a disk: which one is missing")
    elif fault.effects or fault.over is not None:
        problems.add(place, f"{(fault.effects or ['over'])[0]} is of a disk: which one is missing")
    if fault.stop is not None and not 0 < fault.stop <= LONGEST_STOP_NS:
        longest = f"{LONGEST_STOP_NS // 10**9}s"
        problems.add((*place, "stop"), f"expected a time of up to {longest}, got {fault.stop / 1e9:g}s")


def _disk(problems: Problems, place: Place, fault: steps.Fault) -> None:
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
    for name, default in _STORAGE.items():
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
