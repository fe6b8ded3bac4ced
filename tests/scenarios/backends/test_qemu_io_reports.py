"""What qemu-io prints, as captured from QEMU 7.2.22, against the requests that it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from scenarios.backends.interface import NbdFailed
from scenarios.backends.qemu_io import QemuIoReports

WROTE = (
    b"wrote 65536/65536 bytes at offset %d\n64 KiB, 1 ops; 00.00 sec (53.331 MiB/sec and 853.2918 ops/sec)\n"
)
READ = (
    b"read 65536/65536 bytes at offset 0\n64 KiB, 1 ops; 00.00 sec (1.434 GiB/sec and 23487.4107 ops/sec)\n"
)
WRONG = b"Pattern verification failed at offset 0, 65536 bytes\n"
FAILED = b"aio_write failed: %s\n"
DUMP = b"00000000:  03 03 03 03 03 03 03 03 03 03 03 03 03 03 03 ff  ................\n"
DUMPED = DUMP + b"read 16/16 bytes at offset 0\n16 bytes, 1 ops; 00.00 sec (1 GiB/sec and 1 ops/sec)\n"


def on_a_loop(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


def outcome(future: asyncio.Future[bytes]) -> str:
    if not future.done():
        return "waits"
    error = future.exception()
    if error is None:
        return "done"
    assert isinstance(error, NbdFailed)
    return error.errno_name


def test_success_goes_to_the_request_of_that_offset() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        first, second = reports.expect("wrote", 0, 65536), reports.expect("wrote", 131072, 65536)
        reports.feed(WROTE % 131072)
        assert (outcome(first.future), outcome(second.future)) == ("waits", "done")

    on_a_loop(body())


@pytest.mark.parametrize("portion", [1, 7, 1000])
def test_portions_of_any_size(portion: int) -> None:
    async def body() -> None:
        reports = QemuIoReports()
        report = reports.expect("wrote", 512, 65536)
        text = WROTE % 512
        for start in range(0, len(text), portion):
            reports.feed(text[start : start + portion])
        assert outcome(report.future) == "done"

    on_a_loop(body())


def test_a_failure_alone_is_the_request_waiting() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        report = reports.expect("wrote", 0, 65536)
        reports.feed(FAILED % b"No space left on device")
        assert outcome(report.future) == "ENOSPC"

    on_a_loop(body())


def test_a_failure_among_several_waits_until_only_one_can_be_meant() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        first, second, third = (reports.expect("wrote", offset, 65536) for offset in (0, 65536, 131072))
        reports.feed(FAILED % b"Input/output error" + WROTE % 0)
        assert [outcome(r.future) for r in (first, second, third)] == ["done", "waits", "waits"]
        reports.feed(WROTE % 131072)
        assert [outcome(r.future) for r in (first, second, third)] == ["done", "EIO", "done"]

    on_a_loop(body())


def test_a_request_withdrawn_lets_the_failure_be_told() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        first, second = reports.expect("wrote", 0, 65536), reports.expect("wrote", 65536, 65536)
        reports.feed(FAILED % b"Input/output error")
        reports.forget(first)
        assert outcome(second.future) == "EIO"

    on_a_loop(body())


def test_failures_of_another_kind_do_not_count() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        read = reports.expect("read", 0, 65536)
        reports.feed(FAILED % b"Input/output error" + b"discard failed: Input/output error\n")
        assert outcome(read.future) == "waits"
        reports.feed(b"readv failed: Input/output error\n")
        assert outcome(read.future) == "EIO"

    on_a_loop(body())


def test_a_failure_nobody_waits_for_is_not_kept_for_later() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        reports.feed(FAILED % b"Input/output error")
        report = reports.expect("wrote", 0, 65536)
        reports.feed(WROTE % 0)
        assert outcome(report.future) == "done"

    on_a_loop(body())


def test_wrong_content_is_told_of_the_read_it_was_found_in() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        one, two = reports.expect("read", 0, 65536), reports.expect("read", 0, 65536)
        reports.feed(READ + WRONG + READ)
        assert [outcome(r.future) for r in (one, two)] == ["done", "done"]
        assert sorted([one.other_content, two.other_content]) == [False, True]

    on_a_loop(body())


def test_a_dump_is_the_content_of_its_read_alone() -> None:
    async def body() -> None:
        reports = QemuIoReports()
        first = reports.expect("read", 0, 16)
        reports.feed(DUMPED)
        second = reports.expect("read", 0, 16)
        reports.feed(DUMPED)
        assert await first.future == await second.future == b"\x03" * 15 + b"\xff"

    on_a_loop(body())
