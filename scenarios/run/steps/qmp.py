"""`qmp`: one raw command."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from scenarios.backends.interface import QmpRefused
from scenarios.language.steps import ExpectedError, Qmp
from scenarios.run.execution import Execution, NotAsExpectedError, Where, words_of

_ASK_AGAIN_NS = 20_000_000


async def run(x: Execution, qmp: Qmp, where: Where) -> None:
    until_ns = x.session.now_ns() + qmp.within
    while True:
        try:
            await _once(x, qmp, where)
            return
        except NotAsExpectedError:
            if x.session.now_ns() >= until_ns:
                raise
        await x.session.sleep(_ASK_AGAIN_NS)


async def _once(x: Execution, qmp: Qmp, where: Where) -> None:
    arguments = x.named(qmp.arguments)
    try:
        returned = await x.qmp(where, qmp.execute, arguments or None)
    except QmpRefused as error:
        if qmp.error is None:
            raise NotAsExpectedError(f"{qmp.execute} to succeed", words_of(error)) from error
        _check_error(x, qmp.error, error)
        return
    if qmp.error is not None:
        raise NotAsExpectedError(_tell(qmp.error), f"success: {returned}")
    if qmp.returns is not UNSET:
        wrong = difference(x.named(qmp.returns), returned, "$")
        if wrong:
            raise NotAsExpectedError(*wrong)
    if qmp.includes:
        wrong = difference(x.named(qmp.includes), returned, "$", some=True)
        if wrong:
            raise NotAsExpectedError(*wrong)


def _check_error(x: Execution, wanted: ExpectedError, error: QmpRefused) -> None:
    right = error.error_class == wanted.class_
    right = right and (wanted.desc is None or error.desc == x.named(wanted.desc))
    if not right or (wanted.contains is not None and x.named(wanted.contains) not in error.desc):
        raise NotAsExpectedError(_tell(wanted), words_of(error))


def _tell(wanted: ExpectedError) -> str:
    words = f"error {wanted.class_}"
    if wanted.desc is not None:
        return f"{words}: {wanted.desc}"
    return f"{words} with {wanted.contains!r}" if wanted.contains is not None else words


def difference(wanted: Any, got: Any, place: str, some: bool = False) -> tuple[str, str] | None:
    """(wanted, got) at the first place where they differ, else None. Objects by the members that are wanted,
    lists item by item, or, with `some`, by the items that are wanted, wherever they stand."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            if key not in got:
                return f"{place}.{key} to be {value!r}", f"no such member, only {', '.join(got)}"
            wrong = difference(value, got[key], f"{place}.{key}", some)
            if wrong:
                return wrong
        return None
    if isinstance(wanted, list) and isinstance(got, list):
        if some:
            absent = (_absence(each, got, place) for each in wanted)
            return next((wrong for wrong in absent if wrong), None)
        if len(wanted) != len(got):
            return f"{len(wanted)} items at {place}", f"{len(got)}: {got!r}"
        pairs = enumerate(zip(wanted, got, strict=True))
        found = (difference(one, other, f"{place}[{index}]") for index, (one, other) in pairs)
        return next((wrong for wrong in found if wrong), None)
    same = wanted == got and isinstance(wanted, bool) == isinstance(got, bool)
    return None if same else (f"{place} to be {wanted!r}", repr(got))


def _absence(wanted: Any, got: list[Any], place: str) -> tuple[str, str] | None:
    """(wanted, got) if nothing in the list is like `wanted`, else None; told is where the one differs that
    agrees in the first member of an object, if there is one."""
    differences = [difference(wanted, each, f"{place}[{index}]", some=True) for index, each in enumerate(got)]
    if None in differences:
        return None
    first = next(iter(wanted), None) if isinstance(wanted, dict) else None
    for each, wrong in zip(got, differences, strict=True):
        if first is not None and isinstance(each, dict) and each.get(first) == wanted[first]:
            return wrong
    return f"one like {wanted!r} in {place}", f"{len(got)} others"
