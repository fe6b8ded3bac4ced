"""Checks of faults, wherever in a spec they stand."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import msgspec

from scenarios.language import steps
from scenarios.language.check_head import NAME
from scenarios.language.problems import Place, Problems, nearest
from scenarios.language.scalars import spell_size

MOST_FAULTS = 1000
MOST_RATE_BYTES = 1 << 40
KINDS = ("disk", "stop", "monitor", "wait", "resume")
# Less than what any wait for the machine takes.
LONGEST_STOP_NS = 20_000_000_000
# What a server can say over NBD and every QEMU takes as it is.
OVER_NBD = ("EIO", "EINVAL", "ENOMEM", "ENOSPC", "EPERM")
_MILLISECOND_NS = 1_000_000
_LONGEST_DELAY_NS = 10_000_000_000
_SECOND_NS = 1_000_000_000  # of which there is a whole number in a node's reconnect-delay
_UNCOUNTED = ("discard", "flush")
# Members of requests that fail.
_COUNTED = {
    field.name: field.default
    for field in msgspec.structs.fields(steps.StorageFault)
    if field.name not in steps.FAULT_EFFECTS
}


def fault(problems: Problems, place: Place, fault: steps.Fault, suspended: Iterable[str]) -> None:
    """Everything but whether there is such a disk. `suspended`: all the names of this spec's suspensions."""
    given = [name for name in KINDS if getattr(fault, name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        problems.add(place, f"expected exactly one of {', '.join(KINDS)}, got {got}")
    if fault.disk is not None:
        _disk(problems, place, fault)
    elif any(getattr(fault, name) != default for name, default in _COUNTED.items()):
        problems.add(place, "requests fail at a disk: which one is missing")
    elif fault.effects or fault.over is not None:
        problems.add(place, f"{(fault.effects or ['over'])[0]} is of a disk: which one is missing")
    if fault.stop is not None and not 0 < fault.stop <= LONGEST_STOP_NS:
        longest = f"{LONGEST_STOP_NS // 10**9}s"
        problems.add((*place, "stop"), f"expected a time of up to {longest}, got {fault.stop / 1e9:g}s")
    for name in ("wait", "resume"):
        tag = getattr(fault, name)
        if tag is not None and tag not in suspended:
            problems.add((*place, name), f'nothing suspends a request as "{tag}", {nearest(tag, suspended)}')


def _disk(problems: Problems, place: Place, fault: steps.Fault) -> None:
    """A fault of a disk's storage: one effect, and nothing that does not go with it."""
    add = problems.add
    storage(problems, place, fault)
    reconnect = fault.reconnect
    if reconnect is not None and not fault.lost:
        add((*place, "reconnect"), "only a server that is lost can come back (lost: true)")
    elif reconnect is not None and (reconnect % _SECOND_NS or not 0 < reconnect <= LONGEST_STOP_NS):
        longest = f"{LONGEST_STOP_NS // _SECOND_NS}s"
        add((*place, "reconnect"), f"expected whole seconds, from 1s to {longest}, got {reconnect} ns")
    if fault.over is None:
        return
    if fault.counts and fault.error not in OVER_NBD:
        add((*place, "error"), f'over NBD expected {", ".join(OVER_NBD)}, got "{fault.error}"')
    if fault.mend:
        add((*place, "over"), "storage is mended whatever the fault was: leave this out")
    if fault.suspend is not None:
        add((*place, "over"), "it is QEMU itself that suspends a request: leave this out")


def storage(problems: Problems, place: Place, fault: steps.StorageFault) -> None:
    add = problems.add
    if len(fault.effects) > 1:
        add(place, f"expected one of {', '.join(steps.FAULT_EFFECTS)}, got {' and '.join(fault.effects)}")
    elif fault.counts:
        _counted(problems, place, fault)
    else:
        [effect] = fault.effects
        for name, default in _COUNTED.items():
            if getattr(fault, name) != default and (name, effect) != ("on", "suspend"):
                add((*place, name), f"belongs to requests that fail, and this fault is {effect}")
    if fault.suspend is not None:
        _suspension(problems, place, fault.on, fault.suspend)
    if fault.rate is not None and not 1 <= fault.rate <= MOST_RATE_BYTES:
        most = spell_size(MOST_RATE_BYTES)
        add((*place, "rate"), f"expected 1 to {most} bytes a second, got {fault.rate}")
    delay = getattr(fault, "delay", None)
    if delay is not None and (delay % _MILLISECOND_NS or not 0 < delay <= _LONGEST_DELAY_NS):
        add((*place, "delay"), f"expected whole milliseconds, from 1ms to 10s, got {delay} ns")


def _counted(problems: Problems, place: Place, fault: steps.StorageFault) -> None:
    add = problems.add
    if fault.error not in errno.errorcode.values():
        add((*place, "error"), f'expected an errno such as EIO or ENOSPC, got "{fault.error}"')
    if not 1 <= fault.times <= MOST_FAULTS:
        add((*place, "times"), f"expected a number from 1 to {MOST_FAULTS}, got {fault.times}")
    if not 0 <= fault.skip <= MOST_FAULTS:
        add((*place, "skip"), f"expected a number from 0 to {MOST_FAULTS}, got {fault.skip}")
    if fault.skip and fault.on in _UNCOUNTED:
        add((*place, "skip"), f"a {fault.on} cannot be counted, only read, write and write-zeroes")


def _suspension(problems: Problems, place: Place, on: str, tag: str) -> None:
    if not NAME.fullmatch(tag):
        problems.add(
            (*place, "suspend"),
            f'expected a name of up to 20 letters, digits, - . _ after a letter, got "{tag}"',
        )
    if on in _UNCOUNTED:
        problems.add((*place, "on"), f"a {on} cannot be suspended, only read, write and write-zeroes")


def suspensions(problems: Problems, todo: Iterable[tuple[Place, steps.Step]]) -> list[str]:
    """The names that requests are suspended under. Each is given once, and somebody lets the request go on
    (which a machine that is killed does too)."""
    where: dict[str, Place] = {}
    let_go: set[str] = set()
    is_killed = False
    for place, each in todo:
        is_killed = is_killed or each.crash is not None
        verb = "fault" if each.fault else "fleece"
        fault = each.fault or (each.fleece.fault if each.fleece else None)
        if each.fault is not None and each.fault.resume is not None:
            let_go.add(each.fault.resume)
        if fault is None or fault.suspend is None:
            continue
        here = (*place, verb, "suspend") if each.fault else (*place, verb, "fault", "suspend")
        if fault.suspend in where:
            problems.add(here, f'"{fault.suspend}" is the name of another request; take one of its own')
        where.setdefault(fault.suspend, here)
    for tag, here in where.items():
        if tag not in let_go and not is_killed:
            problems.add(here, f"no step lets this request go on: expected fault: {{resume: {tag}}}")
    return list(where)
