"""QMP requests and replies; expected texts were answered by qemu-system-x86_64 7.2.22."""

import pytest

from simulator.wire import qmp
from simulator.wire.json_stream import encode_line
from simulator.wire.qdict import bucket, in_order


@pytest.mark.parametrize(
    ("value", "oob", "desc"),
    [
        ([], False, "QMP input must be a JSON object"),
        (None, False, "QMP input must be a JSON object"),
        ({}, False, "QMP input lacks member 'execute'"),
        ({"execute": 1}, False, "QMP input member 'execute' must be a string"),
        ({"execute": "stop", "arguments": []}, False, "QMP input member 'arguments' must be an object"),
        ({"exec-oob": "stop"}, False, "QMP input member 'exec-oob' is unexpected"),
        ({"exec-oob": 1}, True, "QMP input member 'exec-oob' must be a string"),
        ({"execute": 1, "foo": 1}, False, "QMP input member 'execute' must be a string"),
        ({"foo": 1, "execute": 1}, False, "QMP input member 'execute' must be a string"),
    ],
)
def test_bad_requests(value, oob, desc):
    with pytest.raises(qmp.BadRequest) as caught:
        qmp.parse_request(value, oob)
    assert caught.value.desc == desc


def test_both_verbs_clash():
    with pytest.raises(qmp.BadRequest, match=r"QMP input member 'exec.*' clashes with 'exec"):
        qmp.parse_request({"execute": "a", "exec-oob": "b", "id": 3}, True)


def test_requests():
    request = qmp.parse_request({"execute": "stop", "id": None})
    assert (request.command, request.arguments, request.id, request.oob) == ("stop", {}, None, False)
    request = qmp.parse_request({"exec-oob": "x", "arguments": {"a": 1}}, True)
    assert (request.command, request.arguments, request.id, request.oob) == ("x", {"a": 1}, qmp.NO_ID, True)
    assert qmp.looks_out_of_band({"exec-oob": 1})
    assert not qmp.looks_out_of_band({"exec-oob": 1, "execute": 1})
    assert not qmp.looks_out_of_band("exec-oob")


def test_a_bad_request_keeps_its_id():
    with pytest.raises(qmp.BadRequest) as caught:
        qmp.parse_request({"id": [1]})
    assert qmp.error("GenericError", caught.value.desc, caught.value.id) == {
        "id": [1],
        "error": {"class": "GenericError", "desc": "QMP input lacks member 'execute'"},
    }


def test_replies():
    assert list(qmp.returned({}, 5)) == ["return", "id"]
    assert qmp.returned({}) == {"return": {}}
    assert qmp.greeting({"qemu": {}}) == {"QMP": {"version": {"qemu": {}}, "capabilities": ["oob"]}}
    event = qmp.event("STOP", 1_795_411_532_257_055_999)
    assert event == {"timestamp": {"seconds": 1_795_411_532, "microseconds": 257_055}, "event": "STOP"}
    assert list(qmp.event("RESET", 0, {"guest": False})) == ["timestamp", "event", "data"]


def test_the_short_ways_give_the_same_lines():
    assert qmp.DONE_LINE == b'{"return": {}}\r\n'
    # Members in the order of docs/interop/qmp-spec.txt, "Asynchronous events", one blank after each sign.
    assert qmp.event_line("STOP", 1_795_411_532_257_055_999) == (
        b'{"timestamp": {"seconds": 1795411532, "microseconds": 257055}, "event": "STOP"}\r\n'
    )
    members = {"device": "d\u00e9", "speed": 0.5, "list": [1, {}]}
    line = qmp.event_line("X", 1_000_000_999, members)
    assert line == encode_line(qmp.event("X", 1_000_000_999, members))


def test_member_order():
    # As qemu-system-x86_64 7.2 printed {"b", "a", "c", "d", "e"} and its own replies.
    assert in_order("bacde") == ["d", "e", "a", "b", "c"]
    assert in_order(["desc", "class"]) == ["class", "desc"]
    assert in_order(["id", "return"]) == ["return", "id"]
    assert in_order(["error", "id"]) == ["id", "error"]
    assert in_order(["major", "minor", "micro"]) == ["micro", "minor", "major"]
    same = [f"k{number}" for number in range(2000) if bucket(f"k{number}") == bucket("k0")][:2]
    assert in_order(same) == same[::-1]  # the newest is the first of its bucket
