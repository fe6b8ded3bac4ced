"""load(write(s)) == s for any scenario, in the spellings that a person would use."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.language import steps
from scenarios.language.loader import load_text
from scenarios.language.scalars import duration, plain, size, spell_duration, spell_size, spell_text
from scenarios.language.writer import write

DISK_BYTES = 16 << 20
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
json_values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(words, json_values, max_size=3)
offsets = st.integers(0, DISK_BYTES // 2)
lengths = st.integers(1, DISK_BYTES // 2)
bytes_ = st.integers(0, 255)
optional_words = st.none() | words
disk_names = st.sampled_from(["vda", "vdb"])


def built(struct: type, **members: Any) -> Any:
    return st.builds(struct, **members)


def one_member(struct: type, fixed: dict[str, Any], choices: dict[str, Any]) -> Any:
    return st.one_of([built(struct, **fixed, **{name: choice}) for name, choice in choices.items()])


spans = built(steps.Range, at=offsets, length=lengths)
writes = built(steps.Write, at=offsets, length=lengths, pattern=st.none() | bytes_)
repeated = built(steps.Write, at=st.just(512), length=st.just(512), times=st.integers(1, 9))
zeroes = built(steps.Zero, at=offsets, length=lengths, unmap=st.booleans())
guests = one_member(
    steps.Guest,
    {"disk": disk_names, "error": optional_words},
    {
        "write": writes | repeated,
        "zero": zeroes,
        "discard": spans,
        "flush": st.just(True),
        "read": built(steps.GuestRead, at=offsets, length=lengths, pattern=st.none() | bytes_),
    },
)
nbds = one_member(
    steps.Nbd,
    {"export": words, "error": optional_words},
    {
        "read": built(steps.GuestRead, at=offsets, length=lengths, pattern=st.none() | bytes_),
        "write": writes,
        "zero": zeroes,
        "flush": st.just(True),
        "garbage": st.binary(max_size=5).map(bytes.hex),
        "stall": st.sampled_from(["greeting", "flags", "option", "idle", "request", "replies"]),
        "exports": st.lists(words, max_size=2),
        "info": st.dictionaries(words, st.booleans() | st.integers(0, 2**63) | words, max_size=3),
    },
)
reads = built(
    steps.Read,
    source=st.just("t"),
    disk=st.none() | disk_names,
    at=offsets,
    length=lengths,
    times=st.integers(1, 9),
    leave=st.booleans(),
    error=optional_words,
)
copies = built(
    steps.Copy,
    source=st.just("t"),
    client=st.sampled_from(["own", "nbdcopy", "qemu-img"]),
    connections=st.integers(1, 16),
    chunk=st.integers(1, 32 << 20),
    error=optional_words,
)
maps = built(
    steps.Map,
    source=st.just("t"),
    disk=disk_names,
    context=st.sampled_from(["allocation", "depth"]),
    expect=st.none()
    | st.lists(built(steps.ExpectedExtent, at=offsets, length=lengths, state=words), max_size=2),
)
qmps = one_member(
    steps.Qmp,
    {"execute": words, "arguments": json_objects},
    {
        "returns": json_values,
        "includes": st.lists(json_values, max_size=2),
        "error": built(steps.ExpectedError, class_=words, desc=optional_words, contains=optional_words),
    },
)
qmps |= built(steps.Qmp, execute=words, returns=json_values, within=st.integers(1, 10**12))
fault_members = {
    "on": st.sampled_from(["read", "write", "write-zeroes"]),
    "error": st.sampled_from(["EIO", "ENOSPC"]),
    "skip": st.integers(0, 9),
    "times": st.integers(1, 9),
}
storage_effects = st.sampled_from(
    [
        {"delay": 20_000_000},
        {"pause": True},
        {"over": "nbd", "rate": 1 << 20},
        {"rate": 1 << 16},
        {"over": "nbd", "lost": True},
        {"lost": True, "reconnect": 5 * 10**9},
        {"mend": True},
    ]
)
faults = (
    built(steps.Fault, disk=disk_names, over=st.sampled_from([None, "nbd"]), **fault_members)
    | st.builds(lambda members, disk: steps.Fault(disk=disk, **members), storage_effects, disk_names)
    | built(steps.Fault, stop=st.integers(1, 2 * 10**10))
    | st.just(steps.Fault(monitor="vanish"))
)
plain_steps = one_member(
    steps.Step,
    {},
    {
        "guest": guests,
        "read": reads,
        "copy": copies,
        "map": maps,
        "fault": faults,
        "sleep": built(steps.Sleep, ns=st.integers(0, 10**13)),
        "qmp": qmps,
        "hmp": built(steps.Hmp, line=words, prints=optional_words),
        "event": built(steps.Event, name=words, data=json_objects, within=st.integers(0, 10**12)),
        "nbd": nbds,
        "qemu_img": built(steps.QemuImg, run=st.lists(words, min_size=1, max_size=4), prints=optional_words),
    },
)
on_destination = one_member(
    steps.Step, {}, {"guest": guests, "qmp": qmps, "sleep": built(steps.Sleep, ns=st.integers(0, 10**13))}
)
together = st.lists(plain_steps | st.lists(plain_steps, max_size=3), min_size=1, max_size=3)
held = [
    steps.Step(fault=steps.Fault(disk="vda", on="read", suspend="held")),
    steps.Step(fault=steps.Fault(wait="held")),
    steps.Step(fault=steps.Fault(resume="held")),
]
begins = built(
    steps.Fleece,
    id=st.just("t"),
    disks=st.just(["vda", "vdb"]),
    room=st.none() | st.integers(4096, 256 << 20),
    fault=st.none() | built(steps.StorageFault, **fault_members),
    on_cbw_error=st.sampled_from([None, "break-snapshot"]),
)
ends = st.sampled_from(
    [
        steps.Step(end=steps.End(id="t")),
        steps.Step(end=steps.End(id="t", by="stop-server")),
        steps.Step(crash=steps.Crash()),
        steps.Step(crash=steps.Crash(restart=False)),
        steps.Step(quit=steps.Quit()),
        steps.Step(quit=steps.Quit(restart=True, says="no: [such] node")),
        steps.Step(ends=steps.Ends(status=1, says="assertion")),
        steps.Step(ends=steps.Ends(status=0)),
    ]
)


@st.composite
def scenarios(draw: Any) -> steps.Scenario:
    destination = draw(
        st.none()
        | built(
            steps.Destination,
            images=st.sampled_from(["fresh", "copied", "shared"]),
            leaves=st.sampled_from([[], ["bitmap:vda/b"]]),
        )
    )
    nesting = together.map(lambda lanes: steps.Step(together=lanes))
    if destination is not None:
        there = st.lists(on_destination, min_size=1, max_size=3)
        nesting |= there.map(lambda inner: steps.Step(destination=inner))
    middle = st.lists(plain_steps | nesting, max_size=5)
    disk = built(
        steps.Disk,
        size=st.just(DISK_BYTES),
        format=st.sampled_from(["qcow2"]),
        cluster=st.sampled_from([None, 512, 65536]),
    )
    return steps.Scenario(
        name=draw(words),
        source=draw(words),
        disks={"vda": draw(disk), "vdb": draw(disk)},
        methods=draw(st.sampled_from([["overlay"], ["overlay", "snapshot-access"]])),
        destination=destination,
        certificates=draw(st.dictionaries(st.sampled_from(["anna", "eve"]), st.just("ours"))),
        leaves=draw(
            st.lists(
                words.map(lambda word: "node:" + word.replace("\n", "")).filter(lambda w: len(w) > 5),
                max_size=2,
            )
        ),
        seed=draw(st.none() | st.integers()),
        steps=[
            *draw(st.sampled_from([[], held])),
            steps.Step(fleece=draw(begins)),
            *draw(middle),
            draw(ends),
        ],
    )


@settings(max_examples=150, deadline=None)
@given(scenarios())
def test_what_is_written_reads_back_the_same(scenario: steps.Scenario) -> None:
    text = write(scenario)
    assert load_text(text, keep_places=False) == scenario


@settings(max_examples=30, deadline=None)
@given(scenarios())
def test_writing_is_stable_and_a_comment_changes_nothing(scenario: steps.Scenario) -> None:
    text = write(scenario, comment="made by a test\n\n--- not: yaml [")
    assert load_text(text, keep_places=False) == scenario
    assert write(load_text(text)) == write(scenario)


def test_the_spelling_is_a_person_s() -> None:
    scenario = steps.Scenario(
        name="two clients",
        source="RFC, 2013",
        disks={"vda": steps.Disk(size=64 << 20)},
        attach="drive",
        guest="linux",
        methods=["overlay", "snapshot-access"],
        steps=[
            steps.Step(guest=steps.Guest(disk="vda", write=steps.Write(at=0, length=65536, pattern=17))),
            steps.Step(fleece=steps.Fleece(id="monday", disks=["vda"])),
            steps.Step(
                together=[
                    steps.Step(copy=steps.Copy(source="monday", client="nbdcopy")),
                    [
                        steps.Step(sleep=steps.Sleep(ns=100_000_000)),
                        steps.Step(hmp=steps.Hmp(line="info block")),
                    ],
                ]
            ),
            steps.Step(end=steps.End(id="monday")),
            steps.Step(crash=steps.Crash()),
            steps.Step(quit=steps.Quit(restart=True)),
            steps.Step(qmp=steps.Qmp(execute="query-jobs", returns=[], arguments={"a": "on", "b": "1"})),
        ],
    )
    assert (
        write(scenario, comment="made by hand")
        == """\
# made by hand
name: two clients
source: "RFC, 2013"
disks:
  vda: {size: 64M, format: qcow2}
attach: drive
guest: linux
methods: [overlay, snapshot-access]
steps:
  - guest: {disk: vda, write: {at: 0, length: 64k, pattern: 0x11}}
  - fleece: {id: monday, disks: [vda]}
  - together:
      - copy: {from: monday, client: nbdcopy}
      - - sleep: 100ms
        - hmp: info block
  - end: monday
  - crash:
  - quit: {restart: true}
  - qmp: {execute: query-jobs, arguments: {a: "on", b: "1"}, returns: []}
"""
    )


def test_a_number_that_json_lacks_is_refused() -> None:
    step = steps.Step(qmp=steps.Qmp(execute="x", arguments={"a": float("inf")}))
    with pytest.raises(ValueError, match="cannot hold the number inf"):
        write(steps.Scenario(name="x", steps=[step]))


@settings(deadline=None)
@given(st.integers(0, 2**64))
def test_sizes_and_durations_read_back(number: int) -> None:
    assert size(spell_size(number)) == number
    assert duration(spell_duration(number)) == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64k", 65536),
        ("64K", 65536),
        ("1M", 1 << 20),
        ("16T", 1 << 44),
        ("0x200", 512),
        ("7", 7),
        ("-1", -1),
        ("010", None),
        ("64q", None),
        ("1.5M", None),
        ("", None),
        ("k", None),
        ("1 M", None),
        ("9" * 200 + "k", None),
    ],
)
def test_sizes(text: str, expected: int | None) -> None:
    assert size(text) == expected


@settings(deadline=None)
@given(words)
def test_text_is_text_for_every_yaml_reader(text: str) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(f"- {spell_text(text)}") == [text]
    assert yaml.safe_load(f"[{spell_text(text)}]") == [text]


def test_plain_scalars() -> None:
    found = [plain(text) for text in ("", "~", "true", "no", "0x1f", "1e3", ".5", "1.2.3", "+", "2013-07-15")]
    assert found == [None, None, True, "no", 31, 1000.0, 0.5, "1.2.3", "+", "2013-07-15"]
    assert [type(value) for value in found[4:6]] == [int, float]


def test_every_verb_is_tried_above() -> None:
    """A verb that is added to the language must be added to the strategies here."""
    tried = {"guest", "fleece", "read", "copy", "map", "together", "end", "sleep", "crash", "quit"} | {
        "fault",
        "qmp",
        "hmp",
        "event",
        "nbd",
        "qemu_img",
        "destination",
        "ends",
    }
    assert set(steps.VERBS) == tried
    assert {field.name for field in msgspec.structs.fields(steps.Scenario)} == {
        "name",
        "source",
        "disks",
        "attach",
        "incoming",
        "destination",
        "guest",
        "methods",
        "needs",
        "leaves",
        "certificates",
        "seed",
        "steps",
        "path",
    }
