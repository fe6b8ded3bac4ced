"""Does the disk hold what the guest wrote?

Every byte that the guest reads, and every byte of the image after the end, must be one that the guest's own
requests can have left there (see oracle.py), and the image must pass its check. Fleecing must not
be noticed. Once a byte has been seen, it stays until something is written over it.
"""

from __future__ import annotations

from scenarios.judges.oracle import Disk, last_writers, tell_writers, uniform, values_of, who_wrote
from scenarios.judges.sweep import settle_seen, sweep
from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import DiskAdded, FinalImage, GuestOp, History, MachineEnded, Record

_NAME = "guest_intact"
_LEAKED_ONLY = 3  # qemu-img check: clusters leaked, nothing corrupt
_MOST_FINDINGS = 8


def judge(history: History) -> Verdict:
    """unknown if nothing tells what a disk holds: no guest's read and no image after the end."""
    findings: list[Finding] = []
    looked = False
    # Nobody takes back what leaked at a death, however many orderly ends come after it.
    died = any(each.status != 0 for each in history.of(MachineEnded))

    def see_guest(record: GuestOp | FinalImage, disk: Disk, earliest: int) -> None:
        nonlocal looked
        looked = True
        if type(record) is FinalImage:
            findings.extend(_image_findings(record, disk.size, may_leak=died or record.crashed))
        if len(findings) < _MOST_FINDINGS:
            findings.extend(_content_findings(history, record, disk, earliest))

    sweep(history, see_guest, settle_seen)
    if not findings and not looked and history.of(DiskAdded):
        return Verdict(_NAME, "unknown", reason="nothing in the history tells what the disks held")
    return Verdict(_NAME, "invalid" if findings else "valid", findings)


def _image_findings(image: FinalImage, size: int, may_leak: bool) -> list[Finding]:
    findings = []
    allowed = (0, _LEAKED_ONLY) if may_leak else (0,)
    if image.check_status not in allowed:
        words = f"image of {image.disk} fails its check with status {image.check_status}"
        findings.append(Finding(f"{words}: {image.check_output.strip()}", [image]))
    if image.content and image.size != size:
        findings.append(Finding(f"image of {image.disk} has {image.size} bytes, not {size}", [image]))
    return findings


def _content_findings(
    history: History, record: GuestOp | FinalImage, disk: Disk, earliest: int
) -> list[Finding]:
    """At most one for a record: the first wrong range."""
    content = record.content
    if type(record) is FinalImage and record.size == 0:
        return []
    to_settle = []
    for start, end, value in uniform(content):
        for low, high, writers in disk.writers.runs(start, end):
            if len(writers) == 1 and writers[0].value == value:
                continue
            possible = last_writers(writers, record.begin)
            if value not in values_of(possible):
                return [_wrong(history, record, low, high, value, tell_writers(possible))]
            if len(possible) > 1 and all(each.end < record.begin for each in possible):
                to_settle.append((low, high, value, possible))
    for low, high, value, possible in to_settle:
        disk.settle(low, high, value, possible, earliest)
    return []


def _wrong(
    history: History, record: GuestOp | FinalImage, low: int, high: int, value: int, wanted: str
) -> Finding:
    who = (
        "the image after the end" if type(record) is FinalImage else f"the guest's read (step {record.step})"
    )
    origin = who_wrote(history, record.disk, low, value)
    told = "which the guest never wrote there"
    evidence: list[Record] = [record]
    if origin is not None:
        evidence.append(origin)
        late = "later" if origin.begin > (record.end or record.begin) else "before that was overwritten"
        told = f"which the guest's {origin.kind} of step {origin.step or '?'} wrote {late}"
    elif value == 0:
        told = "as if nothing had been written"
    expected = who_wrote_last(history, record, low)
    if expected is not None and expected is not origin:
        evidence.append(expected)
    words = f"{who} finds 0x{value:02x} at {low} to {high} of {record.disk}, {told}; it must hold {wanted}"
    return Finding(words, evidence)


def who_wrote_last(history: History, before: Record, offset: int) -> GuestOp | None:
    """The last request on that byte that had returned when `before` began."""
    disk = getattr(before, "disk", "")
    for record in reversed(history.records):
        if (
            type(record) is GuestOp
            and record.disk == disk
            and record.kind in ("write", "zero", "discard")
            and record.end is not None
            and record.end < before.begin
            and record.offset <= offset < record.offset + record.length
        ):
            return record
    return None
