"""The order of members, as real machines print them (observed on 5.2.0, 7.2.22, 10.0.13 and 11.1.3)."""

from __future__ import annotations

import json

from simulator.wire.qdict import ordered


def shown(value):
    return json.dumps(ordered(value))


def test_members_come_in_the_order_of_qemus_table():
    assert shown({"id": [], "c": 0, "a": [{"b": 1, "a": 2}]}) == '{"a": [{"a": 2, "b": 1}], "c": 0, "id": []}'


def test_of_members_that_share_a_bucket_the_later_comes_first():
    status = {"running": False, "singlestep": False, "status": "prelaunch"}
    assert shown(status) == '{"status": "prelaunch", "singlestep": false, "running": false}'
    assert shown({"major": 7, "minor": 2, "micro": 22}) == '{"micro": 22, "minor": 2, "major": 7}'


def test_what_is_given_stays_as_it_is():
    given = {"b": [1], "a": {"d": 1, "c": 2}}
    ordered(given)["b"].append(2)
    assert list(given) == ["b", "a"]
    assert given["b"] == [1]
