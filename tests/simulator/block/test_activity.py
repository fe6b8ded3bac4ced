"""Inactive nodes: what is refused, told, kept and written back. The words are 10.0.13's (block.c:3089-3206,
6941-7056)."""

from __future__ import annotations

import pytest
from qmp_client import MIB, Client

NULL = {"driver": "null-co", "size": MIB}


class ActivityClient(Client):
    def active(self) -> dict[str, bool]:
        nodes = self.run("query-named-block-nodes", flat=True)
        return {node["node-name"]: node["active"] for node in nodes}


@pytest.fixture
def client() -> ActivityClient:
    client = ActivityClient("10.0")
    client.run("blockdev-add", node_name="below", **NULL)
    client.run("blockdev-add", driver="raw", node_name="above", file="below")
    return client


def test_a_node_and_all_below_it(client: ActivityClient) -> None:
    assert client.run("blockdev-set-active", node_name="below", active=False) == "Node has active parent node"
    assert client.run("blockdev-set-active", node_name="above", active=False) == {}
    assert client.active() == {"above": False, "below": False}
    assert client.run("blockdev-set-active", node_name="below", active=True) == {}
    assert client.active() == {"above": False, "below": True}
    assert client.run("blockdev-set-active", active=False) == {}
    assert client.run("blockdev-set-active", active=True) == {}
    assert client.active() == {"above": True, "below": True}


def test_who_comes_to_an_inactive_node(client: ActivityClient) -> None:
    client.run("blockdev-set-active", node_name="above", active=False)
    said = client.run("blockdev-add", driver="raw", node_name="top", file="above")
    assert said == "Inactive 'above' can't be a file child of active 'top'"
    assert client.run("blockdev-add", driver="raw", node_name="top", file="above", active=False) == {}
    said = client.run("blockdev-set-active", node_name="nobody", active=True)
    assert said == "Failed to find node with node-name='nobody'"


def test_children_described_in_place_are_active(client: ActivityClient) -> None:
    client.run("blockdev-add", driver="raw", node_name="new", file={"node-name": "in", **NULL}, active=False)
    assert client.active() == {"above": True, "below": True, "new": False, "in": True}


def test_a_snapshot_of_an_inactive_node_is_inactive(client: ActivityClient) -> None:
    host = client.machine.host
    host.write_all("/o", bytes(4 * MIB))
    client.run("blockdev-add", driver="file", node_name="o-file", filename="/o")
    client.run("blockdev-create", job_id="j", options={"driver": "qcow2", "file": "o-file", "size": MIB})
    client.machine.run_for(10**9)
    assert client.run("blockdev-add", driver="qcow2", node_name="o", file="o-file", backing=None) == {}
    client.run("blockdev-set-active", node_name="above", active=False)
    assert client.run("blockdev-snapshot", node="above", overlay="o") == {}
    assert client.active()["o"] is False
