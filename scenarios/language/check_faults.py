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
_UNCOUNTED = ("discard", "flush")
_STORAGE = {field.name: field.default for field in msgspec.structs.fields(steps.StorageFault)}


def fault(problems: Problems, place: Place, fault: steps.Fault, suspended: Iterable[str]) -> None:
    """Everything but whether there is such a disk. `suspended`: all the names of this spec's suspensions."""
    if fault.mend and fault.disk is None:
        problems.add(place, "the storage of a disk is to be mended: which one is missing")
        return
    given = [name for name in KINDS if getattr(fault, name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        problems.add(place, f"expected exactly one of {', '.join(KINDS)}, got {got}")
    if fault.mend:
        _all_left_out(problems, place, fault, _STORAGE, "mend")
    elif fault.disk is not None:
        storage(problems, place, fault)
    elif any(getattr(fault, name) != default for name, default in _STORAGE.items()):
        problems.add(place, "requests fail at a disk: which one is missing")
    if fault.stop is not None and not 0 < fault.stop <= LONGEST_STOP_NS:
        longest = f"{LONGEST_STOP_NS // 10**9}s"
        problems.add((*place, "stop"), f"expected a time of up to {longest}, got {fault.stop / 1e9:g}s")
    for name in ("wait", "resume"):
        tag = getattr(fault, name)
        if tag is not None and tag not in suspended:
            problems.add((*place, name), f'nothing suspends a request as "{tag}", {nearest(tag, suspended)}')


def storage(problems: Problems, place: Place, fault: steps.StorageFault) -> None:
    effects = _effects(fault)
    if len(effects) > 1:
        problems.add(place, f"expected exactly one effect, got {' and '.join(effects)}")
    if fault.error is not None and fault.error not in errno.errorcode.values():
        problems.add((*place, "error"), f'expected an errno such as EIO or ENOSPC, got "{fault.error}"')
    if fault.suspend is not None:
        _suspension(problems, place, fault, fault.suspend)
        return
    if fault.rate is not None:
        _rate(problems, place, fault, fault.rate)
        return
    for name, least in (("times", 1), ("skip", 0)):
        count = getattr(fault, name)
        if not least <= count <= MOST_FAULTS:
            problems.add((*place, name), f"expected a number from {least} to {MOST_FAULTS}, got {count}")
    if fault.skip and fault.on in _UNCOUNTED:
        problems.add((*place, "skip"), f"a {fault.on} cannot be counted, only read, write and write-zeroes")


def _effects(fault: steps.StorageFault) -> list[str]:
    return [name for name in ("error", "suspend", "rate") if getattr(fault, name) is not None]


def _suspension(problems: Problems, place: Place, fault: steps.StorageFault, tag: str) -> None:
    if not NAME.fullmatch(tag):
        problems.add(
            (*place, "suspend"),
            f'expected a name of up to 20 letters, digits, - . _ after a letter, got "{tag}"',
        )
    if fault.on in _UNCOUNTED:
        problems.add((*place, "on"), f"a {fault.on} cannot be suspended, only read, write and write-zeroes")
    _all_left_out(problems, place, fault, ("times", "skip"), "suspend: it is the next request that stops")


def _rate(problems: Problems, place: Place, fault: steps.StorageFault, rate: int) -> None:
    if not 1 <= rate <= MOST_RATE_BYTES:
        most = spell_size(MOST_RATE_BYTES)
        problems.add((*place, "rate"), f"expected 1 to {most} bytes a second, got {rate}")
    _all_left_out(problems, place, fault, ("on", "times", "skip"), "rate: it is for all requests")


def _all_left_out(
    problems: Problems, place: Place, fault: steps.StorageFault, names: Iterable[str], why: str
) -> None:
    for name in names:
        if getattr(fault, name) != _STORAGE[name]:
            problems.add((*place, name), f"does not go with {why}")


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
