"""Storage that is slow: how long requests take by the rate alone, on the simulator and on real QEMU."""

from __future__ import annotations

import pytest

from scenarios.backends.interface import SetupError
from scenarios.backends.registry import open_backend
from scenarios.language.loader import load_text
from scenarios.run.history import GuestOp
from scenarios.run.runner import run_case

SECOND_NS = 1_000_000_000
# Two requests of 256k each: the first goes at once, the second when all but a tenth of a second's worth of it
# has leaked away (util/throttle.c, 7.2), which is 150 ms later.
STEPS = """name: x
disks: {vda: {size: 1M, format: raw}}
methods: [snapshot-access]
steps:
  - RATE
  - guest: {disk: vda, write: {at: 256k, length: 256k}}
  - guest: {disk: vda, write: {at: 512k, length: 256k}}
  - guest: {disk: vda, write: {at: 256k, length: 4k}}
  - MEND
  - guest: {disk: vda, write: {at: 256k, length: 256k}}
  - guest: {disk: vda, write: {at: 256k, length: 256k}}
  - sleep: 0
  - guest: {disk: vda, write: {at: 256k, length: 4k}}
"""


def starts_ns(backend: str, rate: str, mend: str) -> list[int]:
    """When each request of the guest began."""
    try:
        opened = open_backend(backend)
    except SetupError as error:
        pytest.skip(str(error))
    text = STEPS.replace("RATE", rate).replace("MEND", mend)
    result = run_case(load_text(text), opened, "snapshot-access", 0)
    assert result.outcome == "holds", result.reason
    return [each.time_ns for each in result.history.of(GuestOp)]


@pytest.mark.parametrize("backend", ["sim:7.2", "qemu", "storage-daemon"])
@pytest.mark.parametrize(
    ("rate", "mend"),
    [
        ("fault: {disk: vda, rate: 1M}", "fault: {disk: vda, mend: true}"),
        ("fleece: {id: t, disks: [vda], fault: {rate: 1M}}", "end: t"),
    ],
    ids=["disk", "scratch"],
)
def test_requests_take_their_time_until_the_storage_is_mended(backend: str, rate: str, mend: str) -> None:
    first, second, third, mended, *_, last = starts_ns(backend, rate, mend)
    # From before the first: on a busy machine the second is seen late, not the third.
    assert third - first >= 0.14 * SECOND_NS
    assert mended - first < 5 * SECOND_NS
    if backend == "sim:7.2":
        assert third - second == 150_000_000
        assert last == mended
