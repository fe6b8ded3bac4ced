"""Feature words, on a schema made by hand and on the recorded one of 7.2."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from scenarios.language.steps import Copy, Disk, End, Fault, Fleece, Hmp, Qmp, Scenario, Step, StorageFault
from scenarios.run.features import Features, known, needs

RECORDED = Path(__file__).parents[3] / "simulator/versions/recorded/7.2/system/schema.json.gz"


@pytest.mark.parametrize(
    "word",
    [
        "hmp",
        "machine",
        "moves",
        "processes",
        "real",
        "simulator",
        "command:blockdev-add",
        "event:JOB_STATUS_CHANGE",
        "driver:snapshot-access",
        "action:blockdev-backup",
        "argument:block-export-add.allocation-depth",
        "value:drive-backup.mode=drive",
        "argument:blockdev-add.server.path",
    ],
)
def test_words(word):
    assert known(word)


@pytest.mark.parametrize(
    "word", ["", "hmpp", "command:", "command:a b", "argument:x", "value:a.b", "value:a=b", "version:7.2"]
)
def test_no_words(word):
    assert not known(word)


@pytest.fixture(scope="module")
def features():
    schema = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return Features(("hmp", "machine"), schema["return"] if isinstance(schema, dict) else schema)


@pytest.mark.parametrize(
    ("word", "has"),
    [
        ("hmp", True),
        ("processes", False),
        ("command:blockdev-backup", True),
        ("command:x-no-such", False),
        ("command:JOB_STATUS_CHANGE", False),
        ("event:JOB_STATUS_CHANGE", True),
        ("event:blockdev-add", False),
        ("driver:snapshot-access", True),
        ("driver:no-such", False),
        ("action:abort", True),
        ("action:qom-set", False),
        ("argument:block-export-add.allocation-depth", True),
        ("argument:block-export-add.fixed-iothread", True),
        ("argument:block-export-add.no-such", False),
        ("argument:blockdev-add.server.path", True),
        ("argument:transaction.actions.data.job-id", True),
        ("argument:blockdev-backup.discard-source", False),
        ("value:blockdev-backup.sync=none", True),
        ("value:drive-backup.mode=drive", False),
        ("value:blockdev-add.on-cbw-error=break-snapshot", True),
        ("value:blockdev-add.on-cbw-error=ignore", False),
    ],
)
def test_of_qemu_7_2(features, word, has):
    assert features.has(word) is has


def test_what_steps_and_methods_imply():
    steps = [
        Step(fleece=Fleece(id="monday", disks=["vda"], bitmap="b0")),
        Step(
            together=[Step(hmp=Hmp(line="info block")), [Step(copy=Copy(source="monday", client="nbdcopy"))]]
        ),
        Step(qmp=Qmp(execute="query-jobs")),
        Step(fleece=Fleece(id="t", disks=["vda"], fault=StorageFault(), on_cbw_error="break-snapshot")),
    ]
    suspended = Scenario(name="y", steps=[Step(fault=Fault(disk="vda", suspend="held"))])
    small = Scenario(name="w", steps=[Step(fleece=Fleece(id="t", disks=["vda"], room=1 << 20))])
    assert needs(small, None) == ["mounts"]
    slow = Scenario(name="z", steps=[Step(fault=Fault(disk="vda", rate=1 << 20))])
    assert needs(slow, None) == ["driver:throttle", "command:blockdev-reopen"]
    assert needs(suspended, None) == ["driver:blkdebug", "command:blockdev-reopen", "hmp"]
    scenario = Scenario(name="x", disks={"vda": Disk(size=512)}, needs=["real"], steps=steps)
    wanted = needs(scenario, "overlay")
    assert wanted[0] == "real"
    assert {
        "hmp",
        "processes",
        "command:query-jobs",
        "action:block-dirty-bitmap-merge",
        "driver:qcow2",
        "driver:blkdebug",
        "argument:blockdev-backup.on-cbw-error",
    } <= set(wanted)
    served = Scenario(name="x", steps=[Step(fault=Fault(disk="vda", pause=True))])
    assert {"storage-server", "driver:nbd", "command:blockdev-reopen"} <= set(needs(served, None))
    assert "argument:blockdev-add.on-cbw-error" in needs(scenario, "snapshot-access")
    assert "linux" in needs(Scenario(name="x", guest="linux"), None)
    assert all(known(word) for word in wanted)


def ending(fleece_id):
    return Step(end=End(id=fleece_id))


def beginning(fleece_id):
    return Step(fleece=Fleece(id=fleece_id, disks=["vda"]))


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([beginning("a"), beginning("b")], True),
        ([beginning("a"), ending("a"), beginning("b")], False),
        ([beginning("a"), ending("a"), beginning("b"), beginning("c")], True),
    ],
)
def test_points_in_time_at_once_need_a_guest_that_moves(steps, wanted):
    scenario = Scenario(name="x", disks={"vda": Disk(size=512)}, steps=steps)
    assert ("moves" in needs(scenario, "overlay")) is wanted
    # The other method's drivers came with the release in which a guest moves.
    assert "moves" not in needs(scenario, "snapshot-access")
    alone = Scenario(name="x", disks={"vda": Disk(size=512)}, attach="none", steps=steps)
    assert "moves" not in needs(alone, "overlay")
