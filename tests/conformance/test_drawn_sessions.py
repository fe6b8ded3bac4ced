"""Sessions that nobody wrote: drawn the same again, told as a file of sessions, and answered as QEMU does."""

import pytest

from scenarios.backends.interface import SetupError
from scenarios.conformance.diff_sessions import DIED, EQUAL, KNOWN, UNEQUAL, compare, first_that_counts, main
from scenarios.conformance.drawn import MOVES, draw
from scenarios.conformance.recording import Expected, Recording
from scenarios.conformance.replay import opened
from scenarios.conformance.session import load_file, written
from scenarios.gate.known import entry_for_kind, kinds

SEEDS = range(40)


def test_a_number_is_a_session_and_no_other_is_the_same():
    drawn = [draw(seed) for seed in SEEDS]
    assert [draw(seed) for seed in SEEDS] == drawn
    assert len({source.digest for source in drawn}) == len(SEEDS)


def test_every_kind_of_command_is_drawn():
    said = {step.what["execute"] for seed in range(400) for step in draw(seed).steps if step.verb == "send"}
    verbs = {step.verb for seed in range(400) for step in draw(seed).steps}
    assert {"blockdev-add", "blockdev-reopen", "transaction", "block-export-add", "job-cancel"} < said
    assert len(said) > len(MOVES)
    assert verbs == {"send", "guest", "nbd", "hmp"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_session_that_is_told_can_be_said_again(seed, tmp_path):
    source = draw(seed)
    path = tmp_path / "told.yaml"
    path.write_text(written(source, "again"))
    [again] = load_file(path)
    assert (again.steps, again.scenario.disks) == (source.steps, source.scenario.disks)
    assert again.scenario.attach == source.scenario.attach


def test_what_two_versions_answer_differently_is_found_and_cut_down():
    """blockdev-reopen came with 6.1: 5.2 has no such command."""
    seed = next(
        seed
        for seed in range(1000)
        if any(step.verb == "send" and step.what["execute"] == "blockdev-reopen" for step in draw(seed).steps)
        and not any(step.verb in ("guest", "nbd") for step in draw(seed).steps)
    )
    compared = compare(draw(seed), seed, opened("sim:5.2"), opened("sim:7.2"))
    assert compared.outcome == UNEQUAL
    assert compared.difference is not None
    assert len(compared.session.partition("steps:")[2].strip().splitlines()) <= 3
    assert compare(draw(seed), seed, opened("sim:7.2"), opened("sim:7.2")).outcome == EQUAL


def races(seed):
    """Whether a job of it reads its disk: on a busy host it may be ready before the reply, or after it."""
    said = {step.what["execute"] for step in draw(seed).steps if step.verb == "send"}
    return not said.isdisjoint({"blockdev-mirror", "drive-mirror", "block-commit", "block-stream"})


def test_the_simulator_answers_as_qemu_does():
    simulator, real = opened("sim:7.2"), opened("qemu")
    calm = [seed for seed in range(80) if not races(seed)]
    assert len(calm) > 30
    unlike = [
        compared
        for seed in calm
        if (compared := compare(draw(seed), seed, simulator, real)).outcome not in (EQUAL, DIED, KNOWN)
    ]
    assert [f"{each.kind}\n{each.difference}\n{each.session}" for each in unlike] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "sim:7.2"], "expected --backend twice"),
        (["--backend", "sim:7.2", "--backend", "sim:10.0"], "sim:10.0 is no real QEMU"),
        (["--backend", "qemu", "--backend", "qemu"], "expected --backend twice: the simulator"),
        (["--backend", "sim:7.2", "--backend", "qemu", "--seeds", "9..9"], "expected FIRST..LAST such as"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, said):
    with pytest.raises(SetupError, match=said):
        main(words)


CREATED, READY, REPLY = {"event": "CREATED"}, {"event": "READY"}, {"return": {}}


@pytest.mark.parametrize(
    ("command", "ours", "counts"),
    [
        ("drive-mirror", [CREATED, REPLY, READY], False),
        ("drive-mirror", [REPLY, CREATED, READY], False),
        ("drive-mirror", [READY, CREATED, REPLY], True),
        ("drive-mirror", [CREATED, REPLY], True),
        ("job-complete", [CREATED, REPLY, READY], True),
    ],
)
def test_only_the_place_of_a_reply_to_what_starts_jobs_does_not_count(command, ours, counts):
    steps = [Expected("greeting", []), Expected(f'{{"execute": "{command}"}}', [CREATED, READY, REPLY])]
    found = first_that_counts(Recording("it", "10.0.13", 1, "", steps), [[], ours])
    assert (found is not None) is counts


READ = "unequal: nbd: {*: {*: [[*, *, *]]}}"
NULL = '- {"blockdev-add": {"driver": "null-co", "node-name": "n1"}}\n'
UNWRITTEN = "unequal: guest: message *, $.result.failed: missing"
REOPENED = '- {"blockdev-reopen": {"options": [{"driver": "qcow2", "file": "n1", "node-name": "vda"}]}}'
READS = '- {"nbd": {"export": "n1", "read": [0, 512]}}'


@pytest.mark.parametrize(
    ("version", "kind", "told", "id_"),
    [
        (
            "5.2",
            "died: transaction: message *, $.ended: missing",
            '- {"blockdev-add": {"driver": "quorum", "children": ["n1", "n4"], "node-name": "n4"}}',
            "node-below-itself-crashes",
        ),
        ("7.2", "died: guest: *", REOPENED, "refused-reopen-breaks-qcow2"),
        (
            "10.0",
            UNWRITTEN,
            REOPENED,
            "refused-reopen-breaks-qcow2",
        ),
        ("10.0", UNWRITTEN, '- {"blockdev-reopen": {}}', None),
        ("5.2", "died: guest: *", REOPENED, None),
        ("7.2", "unequal: blockdev-reopen: message *", REOPENED, None),
        ("7.2", "died: query-block: *", '- {"block-stream": {}}', "concluded-stream-crashes-node-queries"),
        ("10.0", "died: query-block: *", '- {"block-stream": {}}', None),
        ("11.1", READ, NULL + READS, "null-reads-are-memory"),
        ("11.1", READ, NULL.replace("}}", ', "read-zeroes": true}}') + READS, None),
    ],
)
def test_what_is_a_known_defect(version, kind, told, id_):
    entry = entry_for_kind(kind, told, version)
    assert (entry.id if entry else None) == id_


def test_every_known_defect_has_a_cause():
    for entry in kinds():
        assert entry.versions
        assert entry.reason
        assert entry.source
