"""Do extents tile the disk, and does a dirty bitmap name everything that was written?

Every map covers its disk from 0 to the end without gaps or overlaps. What the guest wrote, zeroed
or discarded after a bitmap was added or cleared, and before T, is dirty in the copy that the point
in time shows. More may be: a bit stands for many bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scenarios.judges.sweep import points
from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import ClientMap, DiskAdded, GuestOp, History, PointInTime, QmpExchange

_NAME = "maps"
_STARTS = ("block-dirty-bitmap-add", "block-dirty-bitmap-clear", "block-dirty-bitmap-enable")
_STOPS = ("block-dirty-bitmap-remove", "block-dirty-bitmap-disable")


def judge(history: History) -> Verdict:
    sizes = {each.disk: each.size for each in history.of(DiskAdded)}
    findings = []
    for seen in points(history):
        for look in seen.looks:
            if type(look) is ClientMap:
                finding = _tiles(look, sizes.get(look.disk, 0)) or _dirty(history, seen.point, look)
                if finding is not None:
                    findings.append(finding)
    return Verdict(_NAME, "invalid" if findings else "valid", findings)


def _tiles(look: ClientMap, size: int) -> Finding | None:
    at = 0
    for offset, length, _ in look.extents:
        if offset != at or length <= 0:
            words = f"extents do not tile {look.disk}: after {at} comes one at {offset} of {length} bytes"
            return Finding(words, [look])
        at += length
    if at != size:
        return Finding(f"extents of {look.disk} end at {at}, the disk at {size}", [look])
    return None


def _dirty(history: History, point: PointInTime, look: ClientMap) -> Finding | None:
    if look.context in ("allocation", "depth"):
        return None
    start = _recording_since(history, look.disk, look.context, point.begin)
    if start is None:
        return None
    clean = [(offset, offset + length) for offset, length, state in look.extents if state != "dirty"]
    for record in history.records:
        if (
            type(record) is GuestOp
            and record.disk == look.disk
            and record.kind in ("write", "zero")
            and record.error is None
            and record.end is not None
            and start.end is not None
            and start.end < record.begin
            and record.end < point.begin
        ):
            end = record.offset + record.length
            missing = next((each for each in clean if each[0] < end and record.offset < each[1]), None)
            if missing is not None:
                low, high = max(missing[0], record.offset), min(missing[1], end)
                words = (
                    f"bitmap {look.context} calls {low} to {high} of {look.disk} clean, which the guest wrote"
                )
                return Finding(words, [start, record, point, look])
    return None


def _recording_since(history: History, disk: str, bitmap: str, before: int) -> QmpExchange | None:
    """The command since which the disk's bitmap records; None if it does not, or nothing shows it."""
    since: QmpExchange | None = None
    for record in history.records:
        if type(record) is not QmpExchange or record.error_class is not None or record.begin >= before:
            continue
        for name, arguments in _actions(record):
            if arguments.get("name") != bitmap or arguments.get("node") not in (disk, f"{disk}-format"):
                continue
            if name in _STARTS and not arguments.get("disabled"):
                since = record if since is None or name != "block-dirty-bitmap-enable" else since
            elif name in _STOPS:
                since = None
    return since


def _actions(record: QmpExchange) -> Iterator[tuple[str, dict[str, Any]]]:
    """The command itself, or what a transaction is made of."""
    if record.command == "transaction":
        for action in record.arguments.get("actions", ()):
            yield action.get("type", ""), action.get("data", {})
    else:
        yield record.command, record.arguments
