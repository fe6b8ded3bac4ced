"""Checks of faults, wherever in a spec they stand."""

from __future__ import annotations

import errno

from scenarios.language import steps
from scenarios.language.problems import Place, Problems

MOST_FAULTS = 1000


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
