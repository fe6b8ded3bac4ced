"""What the loader accepts, and that every error names its place and what was expected there."""

from __future__ import annotations

import pytest

from scenarios.language import steps
from scenarios.language.loader import SpecError, load_text

HEAD = """name: x
disks:
  vda: {size: 4M}
  vdb: {size: 1M, format: raw}
methods: [overlay]
steps:
"""


def spec(*lines: str) -> str:
    """A spec with two disks and these steps; the first step stands in line 7."""
    return HEAD + "".join(f"  - {line}\n" for line in lines)


def problems_of(text: str | bytes) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_text(text, "a.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_short_spellings_become_integers() -> None:
    loaded = load_text(
        spec(
            "guest: {disk: vda, write: {at: 64k, length: 0x200, pattern: 0x11}}",
            "sleep: 100ms",
            "advance: 45s",
            "hmp: info block",
            "crash:",
            "event: {name: STOP, within: 2min}",
            "event: RESUME",
        )
    )
    assert [step.verb for step in loaded.steps] == [
        "guest",
        "sleep",
        "sleep",
        "hmp",
        "crash",
        "event",
        "event",
    ]
    assert loaded.steps[0].guest == steps.Guest(
        disk="vda", write=steps.Write(at=65536, length=512, pattern=17)
    )
    assert loaded.steps[1].sleep == steps.Sleep(ns=100_000_000)
    assert loaded.steps[2].sleep == steps.Sleep(ns=45_000_000_000)
    assert loaded.steps[3].hmp == steps.Hmp(line="info block")
    assert loaded.steps[4].crash == steps.Crash(restart=True)
    assert loaded.steps[5].event == steps.Event(name="STOP", within=120_000_000_000)
    assert loaded.steps[6].event == steps.Event(name="RESUME")
    assert [step.line for step in loaded.steps] == [7, 8, 9, 10, 11, 12, 13]
    assert loaded.disks["vda"].size == 4 << 20


def test_disks_are_filled_in() -> None:
    text = "name: x\ndisks: {vda: {size: 1M}}\nmethods: [overlay]\nsteps:\n" + (
        "  - guest: {flush: true}\n  - fleece: {id: monday}\n  - copy: {from: monday}\n  - end: monday\n"
    )
    guest, fleece, copy, end = load_text(text).steps
    assert guest.guest is not None
    assert fleece.fleece is not None
    assert guest.guest.disk == "vda"
    assert fleece.fleece.disks == ["vda"]
    assert copy.copy == steps.Copy(source="monday")
    assert end.end == steps.End(id="monday", by="cancel")


def test_words_of_qmp_arguments_follow_the_core_schema() -> None:
    """`on` and `off` are QEMU's words, not booleans as YAML 1.1 has them."""
    loaded = load_text(
        spec(
            'qmp: {execute: x, arguments: {a: on, b: off, c: true, d: 0x10, e: 1.5, f: "1", g: 12:30, h: ~}}'
        )
    )
    assert loaded.steps[0].qmp is not None
    assert loaded.steps[0].qmp.arguments == {
        "a": "on",
        "b": "off",
        "c": True,
        "d": 16,
        "e": 1.5,
        "f": "1",
        "g": "12:30",
        "h": None,
    }


def test_sizes_in_what_a_server_tells_may_have_units() -> None:
    loaded = load_text(spec('nbd: {export: e, info: {size: 4M, read_only: true, name: "4M"}}'))
    assert loaded.steps[0].nbd is not None
    assert loaded.steps[0].nbd.info == {"size": 4 << 20, "read_only": True, "name": "4M"}


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (
            "guest: {disk: vda, write: {at: 0, length: 64q}}",
            'step 1 (guest): write.length: expected a size such as 64k, got "64q"',
        ),
        (
            "guest: {disk: vda, write: {at: 0, lenght: 4k, length: 4k}}",
            "step 1 (guest): write.lenght: unknown key, did you mean length?",
        ),
        ("guest: {disk: vda, write: {at: 0}}", 'step 1 (guest): write: "length" is missing'),
        (
            "guest: {disk: vda, write: [0, 1]}",
            "step 1 (guest): write: expected a mapping with at, length, pattern, times, got a list",
        ),
        ("guest: {disk: vda, flush: yes}", 'step 1 (guest): flush: expected true or false, got "yes"'),
        (
            "guest: {disk: vda, write: {at: 0, length: 4k, pattern: 256}}",
            "step 1 (guest): write.pattern: expected a byte from 0 to 0xff, got 256",
        ),
        (
            "guest: {disk: vda, write: {at: 0, length: 4k}, flush: true}",
            "step 1 (guest): expected exactly one of write, zero, discard, flush, read, got write and flush",
        ),
        (
            "guest: {disk: vda, write: {at: 0, length: 4k, times: 0}}",
            "step 1 (guest): write.times: expected a number from 1, got 0",
        ),
        (
            "guest: {disk: vda, write: {at: 0, length: 4k, times: 1000000}}",
            "step 1 (guest): write.length: expected a range inside the disk: the disk ends at 4M, "
            "this range at 4000000k",
        ),
        (
            "fault: {disk: vda, error: EFULL}",
            'step 1 (fault): error: expected an errno such as EIO or ENOSPC, got "EFULL"',
        ),
        (
            "nbd: {export: e, read: {at: 0, length: 1}, hesitate: 60s}",
            "step 1 (nbd): hesitate: expected a time of up to 20s",
        ),
        (
            "nbd: {exports: [], hesitate: 1s}",
            "step 1 (nbd): hesitate: expected a client that opens an export",
        ),
        (
            "fault: {}",
            "step 1 (fault): expected exactly one of disk, stop, monitor, wait, resume, got none",
        ),
        (
            "fault: {disk: vda, stop: 1s}",
            "step 1 (fault): expected exactly one of disk, stop, monitor, wait, resume, got disk and stop",
        ),
        (
            "fault: {monitor: vanish, on: read}",
            "step 1 (fault): requests fail at a disk: which one is missing",
        ),
        (
            "fault: {stop: 60s}",
            "step 1 (fault): stop: expected a time of up to 20s, got 60s",
        ),
        (
            "fault: {disk: vda, on: flush, skip: 1}",
            "step 1 (fault): skip: a flush cannot be counted, only read, write and write-zeroes",
        ),
        (
            "fault: {disk: vda, times: 0}",
            "step 1 (fault): times: expected a number from 1 to 1000, got 0",
        ),
        (
            "fault: {disk: vda, delay: 1s, pause: true}",
            "step 1 (fault): expected one of suspend, delay, pause, rate, lost, mend, got delay and pause",
        ),
        (
            "fault: {disk: vda, delay: 1us}",
            "step 1 (fault): delay: expected whole milliseconds, from 1ms to 10s, got 1000 ns",
        ),
        (
            "fault: {disk: vda, delay: 11s}",
            "step 1 (fault): delay: expected whole milliseconds, from 1ms to 10s, got 11000000000 ns",
        ),
        (
            "fault: {disk: vda, pause: true, reconnect: 1s}",
            "step 1 (fault): reconnect: only a server that is lost can come back (lost: true)",
        ),
        (
            "fault: {disk: vda, lost: true, reconnect: 1ms}",
            "step 1 (fault): reconnect: expected whole seconds, from 1s to 20s, got 1000000 ns",
        ),
        (
            "fault: {disk: vda, over: nbd, delay: 0s}",
            "step 1 (fault): delay: expected whole milliseconds, from 1ms to 10s, got 0 ns",
        ),
        (
            "fault: {disk: vda, pause: true, skip: 1}",
            "step 1 (fault): skip: belongs to requests that fail, and this fault is pause",
        ),
        (
            "fault: {disk: vda, over: nbd, mend: true}",
            "step 1 (fault): over: storage is mended whatever the fault was: leave this out",
        ),
        (
            "fault: {disk: vda, over: nbd, error: EFBIG}",
            'step 1 (fault): error: over NBD expected EIO, EINVAL, ENOMEM, ENOSPC, EPERM, got "EFBIG"',
        ),
        (
            "fault: {disk: vda, mend: true, error: ENOSPC}",
            "step 1 (fault): error: belongs to requests that fail, and this fault is mend",
        ),
        ("fault: {disk: vda, rate: 0}", "step 1 (fault): rate: expected 1 to 1T bytes a second, got 0"),
        (
            "fleece: {id: a, disks: [vda], fault: {rate: 1M, on: read}}",
            "step 1 (fleece): fault.on: belongs to requests that fail, and this fault is rate",
        ),
        (
            "fault: {disk: vda, suspend: held}",
            "step 1 (fault): suspend: no step lets this request go on: expected fault: {resume: held}",
        ),
        (
            "fleece: {id: a, disks: [vda], fault: {suspend: held}}",
            "step 1 (fleece): fault.suspend: no step lets this request go on: expected fault: {resume: held}",
        ),
        (
            "fault: {resume: held}",
            'step 1 (fault): resume: nothing suspends a request as "held", there are none',
        ),
        (
            "fleece: {id: a, disks: [vda], room: 1G}",
            "step 1 (fleece): room: expected a size from 4k to 256M, got 1G: it is a file system in memory",
        ),
        (
            "fleece: {id: a, disks: [vda], fault: {skip: -1}}",
            "step 1 (fleece): fault.skip: expected a number from 0 to 1000, got -1",
        ),
        (
            "guest: {disk: vda}",
            "step 1 (guest): expected exactly one of write, zero, discard, flush, read, got none",
        ),
        ("guest: {disk: vbd, flush: true}", 'step 1 (guest): disk: unknown disk "vbd", did you mean vdb?'),
        (
            "guest: {disk: vdb, read: {at: 1M, length: 512}}",
            "step 1 (guest): read.length: expected a range inside the disk: the disk ends at 1M, "
            "this range at 1049088",
        ),
        (
            "guest: {disk: vda, zero: {at: -1, length: 512}}",
            "step 1 (guest): zero.at: expected an offset of 0 or more, got -1",
        ),
        (
            "guest: {disk: vda, discard: {at: 0, length: 0}}",
            "step 1 (guest): discard.length: expected a length of at least 1 byte, got 0",
        ),
        ("gest: {disk: vda}", 'step 1: unknown verb "gest", did you mean guest?'),
        ("{}", "step 1: expected exactly one verb, got none"),
        ("{end: a, sleep: 1s}", "step 1: expected exactly one verb, got end and sleep"),
        ("stop", 'step 1: expected a verb such as guest or fleece with its members, got "stop"'),
        ("end: monday", 'step 1 (end): id: unknown fleece id "monday", there are none'),
        ("sleep: 100", "step 1 (sleep): expected a duration such as 100ms, got 100"),
        ("advance: soon", 'step 1 (sleep): expected a duration such as 100ms, got "soon"'),
        ("fleece: {id: a, disks: []}", "step 1 (fleece): disks: expected at least one disk"),
        ("fleece: {id: a, disks: [vda, vda]}", 'step 1 (fleece): disks[1]: "vda" stands here twice'),
        (
            "fleece: {id: 1, disks: [vda]}",
            'step 1 (fleece): id: expected text, got 1; write "1" for the text',
        ),
        (
            "fleece: {id: a b, disks: [vda]}",
            "step 1 (fleece): id: expected an id of up to 20 letters, digits, "
            '- . _ after a letter, got "a b"',
        ),
        (
            "fleece: {id: a, target: raw, target_cluster: 64k}",
            "step 1 (fleece): target_cluster: a raw image has no clusters",
        ),
        (
            "fleece: {id: a, target: qcow3}",
            'step 1 (fleece): target: expected one of qcow2, raw, got "qcow3"; did you mean qcow2?',
        ),
        ("together: []", "step 1 (together): expected at least one lane"),
        (
            "qmp: {execute: query-status, within: 1s}",
            "step 1 (qmp): within: expected returns or includes, which it is asked again for",
        ),
        (
            "qmp: {execute: stop, returns: {}, error: {}}",
            "step 1 (qmp): expected one of returns and error, got both",
        ),
        (
            "qmp: {execute: query-jobs, includes: [{id: j}], error: {}}",
            "step 1 (qmp): expected one of includes and error, got both",
        ),
        (
            "qmp: {execute: stop, arguments: {a: 1, a: 2}}",
            'step 1 (qmp): arguments.a: the key "a" stands here twice (first in line 7)',
        ),
        (
            "hmp: {line: info, prints: x, silent: true}",
            "step 1 (hmp): expected one of prints and silent, got both",
        ),
        (
            "nbd: {export: e}",
            "step 1 (nbd): expected exactly one of read, write, zero, discard, garbage, stall, info, "
            "exports, flush, got none",
        ),
        ("nbd: {garbage: xy}", 'step 1 (nbd): garbage: expected hex digits such as "00ff", got "xy"'),
        (
            "qemu_img: {run: []}",
            'step 1 (qemu_img): run: expected the arguments of qemu-img, such as ["info", "vda.qcow2"]',
        ),
        ("crash: {line: 3}", "step 1 (crash): line: unknown key, known: restart"),
        (
            "guest: !!python/name:os.system {disk: vda}",
            "step 1 (guest): the tag tag:yaml.org,2002:python/name:os.system is not allowed in a scenario",
        ),
    ],
)
def test_a_wrong_step_is_named(step: str, problem: str) -> None:
    assert problems_of(spec(step)) == [f"a.yaml:7: {problem}"]


FLEECE = "fleece: {id: a, disks: [vda]}"


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (FLEECE, 'step 2 (fleece): id: "a" is alive already; end it first or take another id'),
        (
            "read: {from: a, disk: vdb, length: 512}",
            'step 2 (read): disk: "vdb" is not in this point in time, did you mean vda?',
        ),
        (
            "read: {from: a, at: 4M, length: 512}",
            "step 2 (read): length: expected a range inside the disk: the disk ends at 4M, "
            "this range at 4194816",
        ),
        ("read: {from: a, length: 512, times: 0}", "step 2 (read): times: expected 1 or more, got 0"),
        ("copy: {from: b}", 'step 2 (copy): from: unknown fleece id "b", known: a'),
        (
            "copy: {from: a, client: qemu_img}",
            'step 2 (copy): client: expected one of nbdcopy, own, qemu-img, got "qemu_img"; '
            "did you mean qemu-img?",
        ),
        (
            "copy: {from: a, chunk: 64M}",
            "step 2 (copy): chunk: expected at most 32M, what NBD servers take, got 67108864",
        ),
        ("copy: {from: a, connections: 0}", "step 2 (copy): connections: expected 1 to 16, got 0"),
        (
            "map: {from: a, context: b0}",
            'step 2 (map): context: unknown context "b0", known: allocation, depth',
        ),
        (
            "map: {from: a, expect: [{at: 0, length: 8M, state: hole}]}",
            "step 2 (map): expect[0].length: expected a range inside the disk: the disk ends "
            "at 4M, this range at 8M",
        ),
    ],
)
def test_a_wrong_client_is_named(second: str, problem: str) -> None:
    assert problems_of(spec(FLEECE, second)) == [f"a.yaml:8: {problem}"]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            ["copy: {from: a}", FLEECE],
            '7: step 1 (copy): from: "a" does not exist here yet: step 2 (fleece) makes it',
        ),
        ([FLEECE, "end: a", "copy: {from: a}"], '9: step 3 (copy): from: "a" was ended by step 2 (end)'),
        ([FLEECE, "crash:", "end: a"], '9: step 3 (end): id: "a" was ended by step 2 (crash)'),
        (
            [f"together: [{{{FLEECE}}}, {{copy: {{from: a}}}}]"],
            '7: step 1.2 (copy): from: "a" does not exist here yet: step 1.1 (fleece) makes it',
        ),
        (
            [f"together: [{{{FLEECE}}}, [{{sleep: 1s}}, {{{FLEECE}}}]]"],
            '7: step 1.2: another lane makes the id "a" too',
        ),
        (
            [FLEECE, "together: [{end: a}, {sleep: 1s}]", "copy: {from: a}"],
            '9: step 3 (copy): from: "a" was ended by step 2.1 (end)',
        ),
        (
            ["quit:", "guest: {disk: vda, flush: true}"],
            "8: step 2 (guest): there is no machine any more since step 1 (quit)",
        ),
    ],
)
def test_ids_are_followed_through_the_steps(lines: list[str], problem: str) -> None:
    assert problems_of(spec(*lines)) == [f"a.yaml:{problem}"]


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (
            "fault: {disk: vda, over: nbd, suspend: held}",
            "step 1 (fault): over: it is QEMU itself that suspends a request: leave this out",
        ),
        (
            "fault: {disk: vda, pause: true, suspend: held}",
            "step 1 (fault): expected one of suspend, delay, pause, rate, lost, mend, got suspend and pause",
        ),
        (
            "fault: {disk: vda, on: flush, suspend: held}",
            "step 1 (fault): on: a flush cannot be suspended, only read, write and write-zeroes",
        ),
        (
            "fault: {disk: vda, suspend: held, skip: 1}",
            "step 1 (fault): skip: belongs to requests that fail, and this fault is suspend",
        ),
        (
            "fault: {disk: vda, suspend: a b}",
            "step 1 (fault): suspend: expected a name of up to 20 letters, digits, - . _ after a letter, "
            'got "a b"',
        ),
    ],
)
def test_a_wrong_suspension_is_named(step: str, problem: str) -> None:
    """A machine that is killed lets all requests go."""
    assert problems_of(spec(step, "crash:")) == [f"a.yaml:7: {problem}"]


@pytest.mark.parametrize(
    "lines",
    [
        [FLEECE, "end: a", FLEECE, "end: a"],
        [FLEECE, "end: a", "copy: {from: a, error: refused}"],
        [FLEECE, "together: [{end: a}, {copy: {from: a}}]"],
        [f"together: [{{{FLEECE}}}, {{sleep: 1s}}]", "end: a"],
        ["fleece: {id: a, disks: [vda], error: busy}", FLEECE, "end: a"],
        ["nbd: {export: nowhere, error: NBD_REP_ERR_UNKNOWN}"],
        ["quit:", "qemu_img: {run: [check, vda.qcow2]}"],
        ["guest: {disk: vdb, read: {at: 1M, length: 512}, error: EINVAL}"],
        ["fault: {disk: vda, suspend: held}", "fault: {wait: held}", "fault: {resume: held}"],
        ["fleece: {id: a, disks: [vda], fault: {suspend: held}}", "crash:"],
        ["fault: {disk: vda, delay: 20ms}", "fault: {disk: vda, mend: true}"],
        ["fault: {disk: vda, over: nbd, rate: 1M}", "fault: {disk: vda, over: nbd, lost: true}"],
        ["fault: {disk: vda, over: nbd, error: ENOSPC, skip: 3}", "fault: {disk: vda, pause: true}"],
        ["fault: {disk: vda, on: flush}", "guest: {disk: vda, flush: true, error: EIO}"],
    ],
)
def test_these_are_no_problems(lines: list[str]) -> None:
    assert len(load_text(spec(*lines)).steps) == len(lines)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (
            "name: x\nguest: linux\ndisks: {vda: {size: 1M}}\n"
            "steps: [{guest: {disk: vda, write: {at: 0, length: 100}}}]",
            "4: step 1 (guest): write: expected whole sectors of 512 bytes: a Linux guest has no others",
        ),
        (
            "name: x\nincoming: true\ndisks: {vda: {size: 1M}}\nsteps: [{sleep: 1s}]",
            "2: incoming: a machine that waits for a migration has no guest yet: expected attach: none and "
            "no methods",
        ),
        (
            "name: x\nguest: linux\ndisks: {vda: {size: 1M}}\ndestination:\nsteps: [{sleep: 1s}]",
            "4: destination: expected neither incoming nor guest: linux beside a second machine",
        ),
        (
            "name: x\ndestination: {leaves: [b]}\nsteps: [{sleep: 1s}]",
            '2: destination.leaves[0]: expected something such as job:ID, node:NAME or file:NAME, got "b"',
        ),
        (
            "name: x\nsteps: [{ends: {status: 1}}, {hmp: info}]",
            "2: step 2 (hmp): there is no machine any more since step 1 (ends)",
        ),
        (
            "name: x\nsteps: [{ends: {status: -6}}]",
            "2: step 1 (ends): status: expected an exit status from 0 to 255, got -6",
        ),
        (
            "name: x\nsteps: [{destination: [{sleep: 1s}]}]",
            "2: step 1 (destination): this spec has one machine: expected the member destination in its head",
        ),
        (
            "name: x\ndestination:\nsteps: [{destination: [{qemu_img: {run: [info]}}]}]",
            "3: step 1.1 (qemu_img): expected one of crash, ends, event, guest, hmp, nbd, qmp, quit, "
            "sleep, together on the destination",
        ),
        (
            "name: x\ndestination:\nsteps: [{destination: [{quit: {}}, {hmp: info}]}, {sleep: 1s}]",
            "3: step 1.2 (hmp): there is no machine any more since step 1.1 (quit)",
        ),
        (
            "name: x\nguest: linux\nattach: none\nsteps: [{sleep: 1s}]",
            "2: guest: a Linux guest needs its disks: attach cannot be none",
        ),
        (
            "name: x\nattach: drive\ndisks: {vda: {size: 1M}}\nsteps: [{fault: {disk: vda}}]",
            "4: step 1 (fault): the storage of a drive cannot be changed (attach: drive)",
        ),
        ("name: ''\nsteps: [{sleep: 1s}]", "1: name: expected a name that says what the scenario is for"),
        ("steps: [{sleep: 1s}]", '1: "name" is missing'),
        ("name: x", "1: steps: expected at least one step: a scenario without any tests nothing"),
        ("name: x\nsteps: [{sleep: 1s}]\npath: y", "3: path: unknown key, did you mean attach?"),
        (
            "name: x\ndisks: {vda: {size: 1000}}\nsteps: [{sleep: 1s}]",
            "2: disks.vda.size: expected a multiple of 512 bytes, got 1000",
        ),
        (
            "name: x\ndisks: {vda: {size: 0}}\nsteps: [{sleep: 1s}]",
            "2: disks.vda.size: expected a size from 512 to 8 EiB, got 0",
        ),
        (
            "name: x\ndisks: {vda: {size: 8E}}\nsteps: [{sleep: 1s}]",
            "2: disks.vda.size: expected a size from 512 to 8 EiB, got 9223372036854775808",
        ),
        (
            "name: x\ndisks: {vda: {size: 1M, cluster: 3k}}\nsteps: [{sleep: 1s}]",
            "2: disks.vda.cluster: expected a power of two from 512 to 2M, got 3072",
        ),
        (
            "name: x\nmethods: [overlay, overlay]\nsteps: [{sleep: 1s}]",
            "2: methods: expected each method once, got overlay, overlay",
        ),
        (
            "name: x\nleaves: [monday]\nsteps: [{sleep: 1s}]",
            '2: leaves[0]: expected something such as job:ID, node:NAME or file:NAME, got "monday"',
        ),
        (
            "name: x\ncertificates: {anna: a b}\nsteps: [{sleep: 1s}]",
            "2: certificates.anna: expected names of up to 20 letters, digits, - . _ after a letter, got "
            "anna: a b",
        ),
        (
            "name: x\ndisks: {vda: {size: 1M}}\nsteps:\n- fleece: {id: a}",
            "4: step 1 (fleece): a spec that fleeces needs methods, such as methods: "
            "[overlay, snapshot-access]",
        ),
        (
            "name: x\nattach: none\ndisks: {vda: {size: 1M}}\nsteps:\n- guest: {flush: true}",
            "5: step 1 (guest): the disks have no guest in this spec (attach: none)",
        ),
        (
            "- name: x",
            "1: expected a mapping with name, source, disks, attach, incoming, destination, guest, methods, "
            "needs, leaves, certificates, seed, steps, got a list",
        ),
        (
            "name: x\nneeds: [hpm]\nsteps: [{sleep: 1s}]",
            '2: needs[0]: unknown feature "hpm"; scenarios/run/features.py lists them',
        ),
    ],
)
def test_a_wrong_head_is_named(head: str, problem: str) -> None:
    assert problems_of(head) == [f"a.yaml:{problem}"]


def test_all_problems_of_a_file_are_told_at_once_in_its_order() -> None:
    found = problems_of(
        spec(
            "guest: {disk: vda, write: {at: 0, length: 64q}}",
            "fleece: {id: a, disks: [vdc]}",
            "read: {from: a, length: 1x}",
            "end: a",
            "end: a",
        )
    )
    assert [line.split(": ", 1)[0] for line in found] == ["a.yaml:7", "a.yaml:8", "a.yaml:9", "a.yaml:11"]
    assert found[-1].endswith('"a" was ended by step 4 (end)')


def test_an_alias_is_fine() -> None:
    loaded = load_text(
        spec("guest: {disk: vda, write: &w {at: 0, length: 4k}}", "guest: {disk: vdb, write: *w}")
    )
    assert loaded.steps[0].guest is not None
    assert loaded.steps[1].guest is not None
    assert loaded.steps[0].guest.write == loaded.steps[1].guest.write
