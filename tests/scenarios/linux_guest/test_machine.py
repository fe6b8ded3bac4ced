"""A guest that comes to harm is a finding that shows its last screen."""

from __future__ import annotations

import pytest

from scenarios.backends import qemu_linux
from scenarios.backends.registry import open_backend
from scenarios.language.loader import load_text
from scenarios.run.runner import CaseResult, run_case

SPEC = """
name: a guest writes
disks:
  vda: {size: 1M}
guest: linux
steps:
"""


def run(steps: str) -> CaseResult:
    return run_case(load_text(SPEC + steps), open_backend("qemu"), None, 0)


def told(result: CaseResult) -> str:
    return "\n".join(
        f"{finding.explanation}\n{finding.evidence}"
        for verdict in result.verdicts
        for finding in verdict.findings
    )


def test_every_kind_of_request() -> None:
    result = run("""
  - guest: {disk: vda, write: {at: 512, length: 1024, pattern: 0x07}}
  - guest: {disk: vda, read: {at: 0, length: 512, pattern: 0}}
  - guest: {disk: vda, read: {at: 512, length: 1024, pattern: 7}}
  - guest: {disk: vda, zero: {at: 512, length: 512}}
  - guest: {disk: vda, zero: {at: 64k, length: 64k, unmap: true}}
  - guest: {disk: vda, discard: {at: 128k, length: 64k}}
  - guest: {disk: vda, flush: true}
  - guest: {disk: vda, read: {at: 0, length: 1M}}
  - crash: {}
  - guest: {disk: vda, read: {at: 512, length: 512, pattern: 0}}
""")
    assert result.outcome == "holds", told(result)


def test_a_panic(monkeypatch: pytest.MonkeyPatch) -> None:
    line = qemu_linux._KERNEL_COMMAND_LINE + " rdinit=/nothing root=nowhere"
    monkeypatch.setattr(qemu_linux, "_KERNEL_COMMAND_LINE", line)
    result = run("  - guest: {disk: vda, flush: true}\n")
    assert result.outcome == "finding"
    assert "the guest's last screen:" in told(result)
    assert "Kernel panic - not syncing" in told(result)


def test_a_request_that_fails_in_the_guest() -> None:
    """Beyond the end of the disk the kernel refuses it before QEMU sees any of it."""
    result = run("  - guest: {disk: vda, write: {at: 1M, length: 512}, error: ENOSPC}\n")
    assert result.outcome == "holds", told(result)
