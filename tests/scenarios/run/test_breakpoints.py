"""Suspended requests on the simulator: what is waited for, what lets them go, what is told otherwise."""

from __future__ import annotations

import pytest

from scenarios.backends.registry import open_backend
from scenarios.language.loader import load_text
from scenarios.run.history import GuestOp, Missed, Unexpected
from scenarios.run.runner import run_case

HEAD = """name: x
disks: {vda: {size: 1M}}
methods: [snapshot-access]
steps:
"""


def run(*steps):
    text = HEAD + "".join(f"  - {step}\n" for step in steps)
    return run_case(load_text(text), open_backend("sim:7.2"), "snapshot-access", 0)


def test_a_suspended_write_is_in_flight_until_it_is_resumed():
    result = run(
        "fault: {disk: vda, suspend: held}",
        "together: [{guest: {write: {at: 0, length: 4k}}}, "
        "[{fault: {wait: held}}, {guest: {write: {at: 64k, length: 4k}}}, {fault: {resume: held}}]]",
    )
    assert result.outcome == "holds", result.reason
    first, second = result.history.of(GuestOp)
    assert first.begin < second.begin < second.end < first.end


@pytest.mark.parametrize("act", ["wait", "resume"])
def test_a_request_that_never_comes_is_missed(act):
    result = run(
        "fault: {disk: vda, on: read, suspend: held}",
        "guest: {write: {at: 0, length: 4k}}",
        f"fault: {{{act}: held}}",
        "fault: {resume: held}",
    )
    [missed] = result.history.of(Missed)
    assert missed.waited_for == "a request to be suspended as held"


def test_a_name_is_resumed_once():
    result = run(
        "fault: {disk: vda, suspend: held}",
        "together: [{guest: {write: {at: 0, length: 4k}}}, {fault: {resume: held}}]",
        "fault: {resume: held}",
    )
    [unexpected] = result.history.of(Unexpected)
    assert unexpected.wanted == "a request that held is to suspend"
    assert unexpected.got == "none of that name is left"


@pytest.mark.parametrize("instead", ["mend: true", "error: EIO, on: read"])
def test_what_comes_instead_of_a_suspension_lets_requests_go(instead):
    result = run(
        "fault: {disk: vda, suspend: held}",
        f"together: [{{guest: {{write: {{at: 0, length: 4k}}}}}}, [{{fault: {{wait: held}}}}, "
        f"{{fault: {{disk: vda, {instead}}}}}]]",
        "guest: {write: {at: 4k, length: 4k}}",
        "together: [[], [{sleep: 1s}], [{sleep: 0}, {crash: }]]",
    )
    assert result.outcome == "holds", [str(each) for each in result.verdicts if each.findings]


def test_reads_of_a_raw_scratch_image_cannot_be_suspended():
    result = run(
        "fleece: {id: t, disks: [vda], fault: {on: read, suspend: held}}",
        "fault: {resume: held}",
    )
    [unexpected] = result.history.of(Unexpected)
    assert unexpected.wanted == "requests that can be suspended"
    assert unexpected.got == "reads of a raw scratch image; take target: qcow2"
