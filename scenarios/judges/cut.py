"""Which of the guest's requests that were in flight at T are in a point in time: a small search.

A request is in or out as a whole, on all disks and for all readers. If it is in, so is every one
that had returned before it began: a point in time is a cut. What was seen are clauses: a range,
what may be its last writers, and the byte that was there. The search looks for one choice that all
clauses allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

from scenarios.judges.oracle import Writer, Writers, values_of
from scenarios.run.history import ClientMap, ClientRead

_MOST_IN_A_CLAUSE = 8
_MOST_NODES = 20_000
_MOST_PAIRS = 2_000

Choice = dict[Writer, bool]


class Clause(NamedTuple):
    """`value` was seen on `disk` in [start, end) by `look`; `writers` may have written it last."""

    disk: str
    start: int
    end: int
    value: int
    writers: Writers
    look: ClientRead | ClientMap
    in_flight: tuple[Writer, ...]


class TooManyError(Exception):
    """More was in flight at once than this search goes through."""


class Conflict(NamedTuple):
    """No choice allows these clauses together."""

    clauses: list[Clause]


def clause_of(
    disk: str, start: int, end: int, value: int, writers: Writers, look: ClientRead | ClientMap, begin: int
) -> Clause:
    """`begin` of T: a request that succeeded and returned after it was in flight."""
    in_flight = tuple(each for each in writers if each.end >= begin and each.succeeded)
    return Clause(disk, start, end, value, writers, look, in_flight)


def allows(clause: Clause, choice: Choice, begin: int) -> bool:
    """Whether its byte may be there if exactly the requests that `choice` says are in."""
    present = [each for each in clause.writers if choice.get(each, True)]
    last = tuple(
        one
        for one in present
        if not any(
            one.end < other.begin and other.is_sure(begin) and (other.end < begin or other in choice)
            for other in present
        )
    )
    return clause.value in values_of(last)


def find_conflict(clauses: Sequence[Clause], known_in: Choice, begin: int) -> Conflict | None:
    """None if some choice allows all clauses. `known_in` holds requests that must be in. Raises
    TooManyError."""
    if _solve(clauses, known_in, begin):
        return None
    for clause in clauses:
        if not _solve([clause], known_in, begin):
            return Conflict([clause])
    for count, pair in enumerate(combinations(clauses, 2)):
        if count > _MOST_PAIRS:
            break
        if not _solve(pair, known_in, begin):
            return Conflict(list(pair))
    return Conflict(list(clauses))


def must_be_in(clauses: Sequence[Clause], begin: int) -> dict[Writer, Clause]:
    """Requests that one clause alone shows to be in, and those that had returned before such a one began."""
    shown: dict[Writer, Clause] = {}
    for clause in clauses:
        choices = _choices(clause, begin)
        for writer in clause.in_flight:
            if writer not in shown and all(choice[writer] for choice in choices):
                shown[writer] = clause
    for writer, clause in list(shown.items()):
        for each in (one for other in clauses for one in other.in_flight):
            if each.end < writer.begin:
                shown.setdefault(each, clause)
    return shown


def _choices(clause: Clause, begin: int) -> list[Choice]:
    if len(clause.in_flight) > _MOST_IN_A_CLAUSE:
        raise TooManyError(f"{len(clause.in_flight)} requests in flight at once on one range")
    choices = (
        dict(zip(clause.in_flight, each, strict=True))
        for each in product((False, True), repeat=len(clause.in_flight))
    )
    return [choice for choice in choices if allows(clause, choice, begin)]


def _solve(clauses: Sequence[Clause], known_in: Choice, begin: int) -> bool:
    """Whether there is a choice. Requests are decided in the order of their begins, so that what
    must be in with one has been decided before it."""
    tables = [(clause.in_flight, _choices(clause, begin)) for clause in clauses]
    variables = sorted({one for in_flight, _ in tables for one in in_flight}, key=lambda one: one.begin)
    position = {each: index for index, each in enumerate(variables)}
    ready: list[list[tuple[tuple[Writer, ...], list[Choice]]]] = [[] for _ in variables]
    for in_flight, choices in tables:
        if not choices:
            return False
        ready[max(position[each] for each in in_flight)].append((in_flight, choices))
    before = [[one for one in variables if one.end < each.begin] for each in variables]
    choice: Choice = {}
    nodes = 0

    def fits(index: int) -> bool:
        return all(
            any(all(choice[each] == allowed[each] for each in in_flight) for allowed in choices)
            for in_flight, choices in ready[index]
        )

    untried: list[list[bool]] = [[True, False]]
    while untried:
        index = len(untried) - 1
        if index == len(variables):
            return True
        nodes += 1
        if nodes > _MOST_NODES:
            raise TooManyError(f"{len(variables)} requests in flight at once")
        writer = variables[index]
        if not untried[index]:
            untried.pop()
            choice.pop(writer, None)
            continue
        value = untried[index].pop()
        choice[writer] = value
        if value and not all(choice[each] for each in before[index]):
            continue
        if not value and known_in.get(writer):
            continue
        if fits(index):
            untried.append([True, False])
    return False
