"""Versions: values with sources on a base, and the recordings behind them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import versions
from simulator.qapi.errors import ArgumentError
from simulator.versions.facts import GROUPS, Qmp

RECORDED = sorted(path.name for path in Path(versions.RECORDED_DIRECTORY).iterdir())
ROOT = Path(versions.__file__).parents[2]


def test_an_unknown_version_names_the_known_ones():
    known = r"unknown version '7\.3'; known are 5\.2, 7\.2, 10\.0, 11\.1, rfc-2013"
    with pytest.raises(versions.UnknownVersion, match=known):
        versions.load("7.3")


def test_a_version_is_made_once():
    assert versions.load("7.2") is versions.load("7.2")


@pytest.mark.parametrize("name", RECORDED)
def test_the_greeting_is_that_of_the_recorded_binaries(name):
    for binary in versions.BINARIES:
        path = Path(versions.RECORDED_DIRECTORY, name, binary, "greeting.json")
        greeting = json.loads(path.read_text())
        assert greeting["version"] == versions.load(name).greeting_version()
        assert greeting["capabilities"] == ["oob"]
        assert list(versions.load(name).greeting_version()["qemu"]) == list(greeting["version"]["qemu"])


@pytest.mark.parametrize("name", versions.names())
def test_every_fact_has_a_source_and_a_place(name):
    facts = versions.load(name).facts
    expected = {f"{group}.{fact}" for group, kind in GROUPS.items() for fact in kind.__slots__}
    assert set(facts) == expected
    assert all(len(fact) in (3, 4) and fact[2] for fact in facts.values())


def test_facts_are_frozen():
    with pytest.raises(AttributeError, match="frozen"):
        versions.load("7.2").qmp.oob = False
    values = dict.fromkeys(Qmp.__slots__, False)
    with pytest.raises(KeyError, match="zork"):
        Qmp({**values, "zork": 1})
    del values["turns_before_reply"]
    with pytest.raises(KeyError, match="turns_before_reply"):
        Qmp(values)


def test_every_recorded_version_has_a_profile():
    assert {*RECORDED, "rfc-2013"} == set(versions.names())


def test_another_wording_keeps_what_was_named():
    reword = versions.load("5.2").reword
    assert reword("Cannot find device='a b' nor node-name=''") == "Cannot find device=a b nor node_name="
    assert reword("Cannot find device='a' nor node-name='b'.") == "Cannot find device='a' nor node-name='b'."
    assert versions.load("7.2").reword("Invalid node-name: '#x'") == "Invalid node-name: '#x'"


def test_every_wording_of_a_version_has_a_source_and_names_nothing_new():
    for name in versions.names():
        for base, own, source in versions.load(name).reworded:
            assert source
            assert set(re.findall(r"\{[a-z_]+\}", own)) <= set(re.findall(r"\{[a-z_]+\}", base))


def test_the_dialect_changes_only_what_it_says():
    base, dialect = versions.load("7.2"), versions.load("rfc-2013")
    changed = {name for name in base.facts if base.facts[name] != dialect.facts[name]}
    assert changed == {name for name in base.facts if name.startswith("dialect.")}
    assert "dialect.drive_backup_to_drive" in changed
    assert dialect.greeting_version() == base.greeting_version()


def test_mode_drive_is_the_dialects_alone():
    arguments = {"device": "d", "target": "t", "sync": "none", "mode": "drive"}
    dialect = versions.load("rfc-2013").schema("system")
    assert dialect.check("drive-backup", arguments) is arguments
    assert dialect.enum_values(dialect.type_at("drive-backup", "mode")) == [
        "existing",
        "absolute-paths",
        "drive",
    ]
    with pytest.raises(ArgumentError, match="Parameter 'mode' does not accept value 'drive'"):
        versions.load("7.2").schema("system").check("drive-backup", arguments)


def test_introspection_of_the_dialect_differs_in_one_enum():
    base, dialect = (versions.load(name).schema("system").entries for name in ("7.2", "rfc-2013"))
    different = [(b, d) for b, d in zip(base, dialect, strict=True) if b != d]
    [(before, after)] = different
    assert after["values"] == [*before["values"], "drive"]
    assert after["members"] == [*before["members"], {"name": "drive"}]


def test_the_two_binaries_have_their_own_commands():
    version = versions.load("7.2")
    system, daemon = (set(version.schema(binary).command_names()) for binary in versions.BINARIES)
    assert "human-monitor-command" in system - daemon
    assert "blockdev-backup" in system & daemon
    assert (len(system), len(daemon)) == (216, 74)


def test_what_was_not_recorded_is_named():
    with pytest.raises(
        LookupError, match=r"nothing recorded as help of storage-daemon 7\.2; there is: .*schema"
    ):
        versions.load("7.2").recorded("storage-daemon", "help")


def test_recorded_queries_and_objects():
    version = versions.load("7.2")
    queries = version.recorded("system", "queries")
    assert queries["query-status"] == {"return": {"status": "running", "singlestep": False, "running": True}}
    assert len(queries) > 50
    objects = version.recorded("system", "objects")
    names = [entry["name"] for entry in objects["device"]["virtio-blk-pci"]["return"]]
    assert "drive" in names
    assert "help" not in version.recorded("system", "queries")
    assert "drive_add" in version.recorded("system", "help")


def test_loading_a_version_reads_no_recording():
    """The greeting must not wait for 200 KB of JSON."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import builtins\n"
        "real_open = builtins.open\n"
        "def no_open(path, *rest, **named):\n"
        "    assert 'recorded' not in str(path), path\n"
        "    return real_open(path, *rest, **named)\n"
        "builtins.open = no_open\n"
        "from simulator import versions\n"
        "assert versions.load('rfc-2013').greeting_version()['qemu']['major'] == 7\n"
        "assert 'json' not in sys.modules or 'simulator.wire.json_stream' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-IS", "-c", code], check=True, timeout=60)
