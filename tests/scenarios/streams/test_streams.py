"""Inputs that no client would say: few of them, and for each judge a defect that it has to find."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.backends.registry import open_backend
from scenarios.cli import main
from scenarios.streams import command, compare, drawn_nbd, drawn_qmp, parsers
from scenarios.streams.nbd import NbdWire
from scenarios.streams.qmp import QmpWire
from simulator.block.nbd.server import NbdConnection, NbdServer
from simulator.monitor import session as monitor_session
from simulator.monitor.session import Session
from simulator.wire import json_lexer, json_values
from simulator.wire.json_lexer import Grouping, JsonLexer
from simulator.wire.json_stream import ParseError
from simulator.wire.nbd import client, replies, server_options
from simulator.wire.nbd.connection import Connection
from simulator.wire.nbd.messages import TEXTS

VERSIONS = ("5.2", "7.2", "10.0", "11.1")
FEW = range(120)


def found(wire, seeds=FEW, real=None, version="7.2"):
    return compare.compare(wire, seeds, open_backend(f"sim:{version}"), real, set())


def the_finding(compared, outcome=compare.WRONG):
    """The first that was shrunk."""
    return next(each.finding for each in compared if each.outcome == outcome)


@pytest.fixture(scope="module")
def qemu():
    backend = open_backend("qemu")
    backend.probe()
    return backend


# -- what is drawn


@pytest.mark.parametrize("draw", [drawn_qmp.draw, drawn_nbd.draw])
def test_a_number_draws_the_same_input_again(draw):
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]
    assert len({draw(seed) for seed in range(500)}) > 450


def test_an_input_is_cut_without_loss():
    for seed in range(200):
        drawn = drawn_qmp.draw(seed)
        assert [b"".join(pieces) for pieces in drawn.pieces()] == list(drawn.parts)


# -- the simulator


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wire", [QmpWire(), QmpWire(negotiates=False), NbdWire()])
def test_nothing_is_found(wire, version):
    compared = found(wire, version=version)
    assert [each.finding for each in compared if each.outcome != compare.JUDGED] == []
    assert len(compared) == len(FEW)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # of a machine that ends in the midst
def test_an_exception_is_found(monkeypatch):
    real = json_values.parse_string

    def parse(token):
        if b"\xc3" in token:
            raise KeyError(token)
        return real(token)

    monkeypatch.setattr(json_values, "parse_string", parse)
    finding = the_finding(found(QmpWire(), range(600)))
    assert finding.ours.startswith("exception KeyError from test_streams.py, parse: ")
    assert len(finding.shown.payload) < 12


def test_an_exception_of_the_nbd_server_is_found(monkeypatch):
    def list_exports(server, option):
        raise IndexError("the list")

    monkeypatch.setitem(server_options._WITHOUT_PAYLOAD, 3, list_exports)
    finding = the_finding(found(NbdWire()))
    assert finding.ours.endswith("list_exports: the list")
    assert len(finding.shown.payload) <= 4 + 16 + 8


def test_a_reply_that_is_no_json_is_found(monkeypatch):
    real = monitor_session.encode_line
    monkeypatch.setattr(
        monitor_session, "encode_line", lambda *given: real(*given).replace(b'"desc": ', b'"desc" ')
    )
    assert the_finding(found(QmpWire())).ours.startswith("is no JSON")


def test_a_reply_of_other_members_is_found(monkeypatch):
    monkeypatch.setattr(monitor_session.qmp, "error", lambda kind, desc, id_: {"error": desc})
    assert the_finding(found(QmpWire(), range(3))).ours.startswith("has an error that is none")


def test_a_monitor_that_says_no_more_is_found(monkeypatch):
    real = Session.receive
    monkeypatch.setattr(Session, "receive", lambda self, data: None if b"\0" in data else real(self, data))

    def grouping(self, error, start, messages):
        messages.append(error)  # and the message stays open

    monkeypatch.setattr(json_lexer.Collected, "stray", grouping)
    assert the_finding(found(QmpWire())).ours == "no reply to what comes after the input"


def test_a_monitor_that_holds_too_much_is_found(monkeypatch):
    monkeypatch.setattr(Grouping, "size_bytes", property(lambda self: 3 * self._size))
    assert the_finding(found(QmpWire())).ours.startswith("holds ")


def test_a_monitor_that_still_holds_is_found(monkeypatch):
    monkeypatch.setattr(JsonLexer, "held_bytes", property(lambda self: 1))
    assert the_finding(found(QmpWire())).ours == "still holds 1 bytes after a whole message"


def test_a_message_that_is_no_nbd_is_found(monkeypatch):
    monkeypatch.setattr(replies, "simple", lambda cookie, errno=0: bytes(3))
    assert "expected a reply" in the_finding(found(NbdWire())).ours


def test_a_connection_that_holds_too_much_is_found(monkeypatch):
    monkeypatch.setattr(Connection, "held_bytes", property(lambda self: 2 * len(self._held) + 1000))
    assert "are enough" in the_finding(found(NbdWire())).ours


def test_a_connection_that_waits_for_too_much_is_found(monkeypatch):
    monkeypatch.setattr(Connection, "needed_bytes", property(lambda self: 1 << 31))
    assert "waits for" in the_finding(found(NbdWire())).ours


def test_a_connection_that_stays_is_found(monkeypatch):
    monkeypatch.setattr(NbdConnection, "receive_eof", lambda self: None)
    assert the_finding(found(NbdWire())).ours == "the connection is open after its client has shut it"


def test_a_connection_that_is_counted_for_ever_is_found(monkeypatch):
    monkeypatch.setattr(NbdServer, "forget", lambda self, connection: None)
    assert (
        the_finding(found(NbdWire(), range(20))).ours
        == "the server still counts the connection after its end"
    )


# -- beside a real QEMU


def test_the_answers_are_qemus(qemu):
    assert {each.outcome for each in found(QmpWire(), range(100), qemu)} == {compare.EQUAL}
    outcomes = Counter(each.outcome for each in found(NbdWire(), range(100), qemu))
    # Some inputs are the death of QEMU (see ci/known_differences.toml).
    assert set(outcomes) <= {compare.EQUAL, compare.DIED, compare.FORETOLD}
    assert outcomes[compare.EQUAL] > 90


def test_another_answer_is_found(qemu, monkeypatch):
    monkeypatch.setattr(json_values, "_KEYWORDS", {b"true": True, b"false": False, b"null": None, b"nul": 1})
    finding = the_finding(found(QmpWire(), range(15, 20), qemu), compare.UNEQUAL)
    assert "invalid keyword 'nul'" in finding.theirs.replace("\\", "")
    assert len(finding.shown.payload) < 50


def test_other_words_of_the_nbd_server_are_found(qemu, monkeypatch):
    monkeypatch.setitem(TEXTS, "no-tls", "no TLS here")
    finding = the_finding(found(NbdWire(), range(210, 216), qemu), compare.UNEQUAL)
    assert "no TLS here" in finding.ours
    assert "TLS not configured" in finding.theirs


def test_a_qemu_that_dies_is_told_as_such(qemu):
    """An option in which more follows the last query ends it (see ci/known_differences.toml)."""

    class Deadly(NbdWire):
        def draw(self, seed):
            query = drawn_nbd.option(9, b"\0\0\0\2n0\0\0\0\0" + drawn_nbd.option(2))
            return drawn_nbd.Input((b"\0\0\0\3", query)) if seed < 2 else super().draw(seed)

    compared = found(Deadly(), range(4), qemu)
    assert [each.outcome for each in compared] == [
        compare.DIED,
        compare.FORETOLD,
        compare.EQUAL,
        compare.EQUAL,
    ]
    assert "Assertion `!client->optlen' failed" in compared[0].finding.theirs


def test_an_end_that_nobody_foretold_is_told_as_such(qemu, monkeypatch):
    class Deadly(NbdWire):
        def draw(self, seed):
            query = drawn_nbd.option(9, b"\0\0\0\2n0\0\0\0\0" + drawn_nbd.option(2))
            return drawn_nbd.Input((b"\0\0\0\3", query)) if seed == 1 else super().draw(seed)

    real = NbdConnection._take
    monkeypatch.setattr(
        NbdConnection, "_take", lambda self, events: [real(self, events), setattr(self, "aborts", False)]
    )
    compared = found(Deadly(), range(4), qemu)
    assert sorted(each.outcome for each in compared) == [compare.DIED, *[compare.EQUAL] * 3]
    assert [each.finding.seed for each in compared if each.finding is not None] == [1]
    last = found(Deadly(), range(2), qemu)
    assert [each.outcome for each in last] == [compare.EQUAL, compare.DIED], "nothing is asked after it"


# -- the command


def test_the_command(capsys, monkeypatch):
    assert main(["fuzz-streams", "--wire", "nbd", "--count", "20", "-j", "1"]) == 0
    assert capsys.readouterr().out == "20 inputs of nbd on sim:7.2: 20 judged\n"
    assert main(["fuzz-streams", "--wire", "nbd", "--count", "0"]) == 2
    assert main(["fuzz-streams", "--wire", "qmp", "--backend", "sim:7.2"]) == 2
    assert main(["fuzz-streams", "--wire", "qmp", "--simulator", "qemu"]) == 2


def test_the_command_tells_a_finding_once(capsys, monkeypatch):
    finding = compare.Finding(compare.UNEQUAL, 7, drawn_nbd.Input((b"a", b"b")), "ours 1", "theirs")
    again = finding._replace(seed=8, ours="ours 2")
    told = [compare.Compared(compare.UNEQUAL, finding), compare.Compared(compare.UNEQUAL, again)]
    monkeypatch.setattr(command, "_all", lambda options: iter(told))
    assert main(["fuzz-streams", "--wire", "nbd"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "unequal: a b",
        "  simulator: ours 1",
        "  QEMU:      theirs",
        "  goldenfleece fuzz-streams --wire nbd --simulator sim:7.2 --seed 7 --count 1",
        "    2 x unequal: ours * | theirs: 7, 8",
        "2 inputs of nbd on sim:7.2: 2 unequal",
    ]


# -- the parsers alone

CORPUS = list(parsers.corpus(40))
altered = st.builds(
    lambda data, at, new: data[:at] + new + data[at + len(new) :],
    st.sampled_from(CORPUS),
    st.integers(0, 400),
    st.binary(max_size=8),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=80) | altered)
def test_the_parsers_take_anything(data):
    parsers.check(data)


def first_failure():
    for data in CORPUS:
        try:
            parsers.check(data)
        except Exception as error:
            return error
    return None


def test_a_parser_that_minds_how_it_is_cut_is_found(monkeypatch):
    real = JsonLexer.feed
    monkeypatch.setattr(
        JsonLexer,
        "feed",
        lambda self, data, messages: (
            messages.append(ParseError("one")) if len(data) == 1 else real(self, data, messages)
        ),
    )
    assert type(first_failure()) is AssertionError


def test_a_server_that_minds_how_it_is_cut_is_found(monkeypatch):
    real = Connection.receive_data
    monkeypatch.setattr(
        Connection, "receive_data", lambda self, data: [] if len(data) < 8 else real(self, data)
    )
    assert type(first_failure()) is AssertionError


def test_a_client_that_raises_anything_else_is_found(monkeypatch):
    monkeypatch.setattr(client, "_GREETING", client._FLAGS)
    assert type(first_failure()) is not AssertionError
    assert first_failure() is not None
