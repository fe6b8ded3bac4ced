"""`guest`: one request of the guest on one disk, or several one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from scenarios.backends.interface import Guest as GuestSession
from scenarios.backends.interface import NbdFailed
from scenarios.language.steps import Guest, GuestRead
from scenarios.run.content import Run, join, runs_of
from scenarios.run.execution import Execution, NotAsExpectedError, Where, words_of
from scenarios.run.history import GuestOp

# Where the way to the guest only tells whether a pattern is there, what it holds is read in pieces
# of this size.
_PIECE_BYTES = 16 * 1024


async def run(x: Execution, guest: Guest, where: Where) -> None:
    failure = None
    for request in _requests(guest, x.session.guest(guest.disk).largest_request_bytes):
        failure = await _one(x, request, where)
        if failure is not None:
            break
    check_error(guest.error, failure)


async def _one(x: Execution, guest: Guest, where: Where) -> NbdFailed | None:
    """One request and its record; why it failed, if it did."""
    async with x.gate.passed():
        record = _record(x, guest, where)
        x.note_request(record)
        failure = None
        try:
            await _request(x.session.guest(guest.disk), guest, record)
        except NbdFailed as error:
            failure = error
            record.error = error.errno_name
        record.end = x.history.tick()
    x.take_events()
    if guest.read is not None and guest.read.pattern is not None and failure is None:
        wrong = [each for each in record.content if each[2] != guest.read.pattern]
        if wrong:
            raise NotAsExpectedError(f"every byte 0x{guest.read.pattern:02x}", tell_runs(wrong))
    return failure


def _requests(guest: Guest, largest_bytes: int | None) -> Iterator[Guest]:
    """What a step stands for: a write `times` over, and nothing longer than goes through in one piece."""
    write, read = guest.write, guest.read
    if write is not None:
        for count in range(write.times):
            for at, length in _pieces(write.at + count * write.length, write.length, largest_bytes):
                yield replace(guest, write=replace(write, at=at, length=length, times=1))
    elif read is not None:
        for at, length in _pieces(read.at, read.length, largest_bytes):
            yield replace(guest, read=replace(read, at=at, length=length))
    else:
        yield guest


def _pieces(at: int, length: int, largest_bytes: int | None) -> Iterator[tuple[int, int]]:
    if largest_bytes is None or length <= largest_bytes:
        yield at, length
        return
    for start in range(at, at + length, largest_bytes):
        yield start, min(largest_bytes, at + length - start)


def check_error(expected: str | None, failure: NbdFailed | None) -> None:
    """Raises NotAsExpectedError unless a request failed the way that was expected. "any" is any failure."""
    if expected is None and failure is not None:
        raise NotAsExpectedError("success", words_of(failure))
    if expected is not None and failure is None:
        raise NotAsExpectedError(f"error {expected}", "success")
    if expected not in (None, "any") and failure is not None and failure.errno_name != expected:
        raise NotAsExpectedError(f"error {expected}", words_of(failure))


def tell_runs(runs: list[Run]) -> str:
    """The first few, for a person."""
    words = []
    for offset, length, value in runs[:4]:
        byte = f"0x{value:02x}" if isinstance(value, int) else value[:16].hex()
        words.append(f"{byte} at {offset} to {offset + length}")
    return ", ".join(words) + (" ..." if len(runs) > 4 else "")


def next_pattern(x: Execution, given: int | None) -> int:
    """The byte to write: the one given, or the next of 1..255."""
    if given is not None:
        return given
    x.first.patterns = x.first.patterns % 255 + 1
    return x.first.patterns


def _record(x: Execution, guest: Guest, where: Where) -> GuestOp:
    record = GuestOp(
        begin=x.history.tick(), time_ns=x.session.now_ns(), step=where.path, disk=guest.disk, kind="flush"
    )
    for kind in ("write", "zero", "discard", "read"):
        request = getattr(guest, kind)
        if request is not None:
            record.kind = kind
            record.offset, record.length = request.at, request.length
    if guest.write is not None:
        record.pattern = next_pattern(x, guest.write.pattern)
    return record


async def _request(session: GuestSession, guest: Guest, record: GuestOp) -> None:
    if guest.write is not None:
        await session.write(record.offset, record.length, record.pattern)
    elif guest.zero is not None:
        await session.zero(record.offset, record.length, guest.zero.unmap)
    elif guest.discard is not None:
        await session.discard(record.offset, record.length)
    elif guest.read is not None:
        record.content = await _read(session, guest.read)
    else:
        await session.flush()


async def _read(session: GuestSession, read: GuestRead) -> list[Run]:
    payload = await session.read(read.at, read.length)
    if payload is not None:
        return runs_of(payload, read.at)
    if read.pattern is not None and await session.verify(read.at, read.length, read.pattern):
        return [(read.at, read.length, read.pattern)]
    runs: list[Run] = []
    end = read.at + read.length
    for offset in range(read.at, end, _PIECE_BYTES):
        piece = await session.read(offset, min(_PIECE_BYTES, end - offset))
        if piece is None:
            raise NotAsExpectedError(f"the bytes of a read of {_PIECE_BYTES}", "nothing but their number")
        runs += runs_of(piece, offset)
    return join(runs)
