"""Permissions before 6.1: a refusal leaves no trace. The words are 5.2.0's, as recorded in the session "a
backup's filter is refused what others use"."""

from __future__ import annotations

import pytest
from qmp_client import MIB, Client

BUSY = "Node 't' is busy: block device is in use by block job: backup"
PICTURE = "x-debug-query-block-graph"


@pytest.fixture
def client() -> Client:
    """A node that is backed up, and what stands on it."""
    client = Client("5.2")
    client.run("blockdev-add", driver="null-co", node_name="base", size=MIB, read_zeroes=True)
    client.run("blockdev-add", driver="blkdebug", node_name="above", image="base")
    return client


def test_a_refused_backup_leaves_all_as_it_was(client: Client) -> None:
    before = client.run(PICTURE)
    refusal = client.run("blockdev-backup", job_id="j", device="base", target="above", sync="none")
    assert refusal.startswith("Conflicts with use by #block")
    assert refusal.endswith(" as 'backing', which does not allow 'write' on base")
    assert client.run(PICTURE) == before
    assert client.run("blockdev-del", node_name="above") == {}
    assert client.run("blockdev-del", node_name="base") == {}


def test_a_filter_that_is_over_holds_its_target_until_its_job_is_dismissed(client: Client) -> None:
    client.run("blockdev-add", driver="null-co", node_name="t", size=MIB)
    started = client.run(
        "blockdev-backup", job_id="j", device="above", target="t", sync="full", auto_dismiss=False
    )
    assert started == {}
    client.machine.run_for(1_000_000_000)
    assert [job["status"] for job in client.run("query-jobs")] == ["concluded"]
    assert client.run("blockdev-del", node_name="t") == BUSY
    assert client.run("job-dismiss", id="j") == {}
    assert client.run("blockdev-del", node_name="t") == {}
