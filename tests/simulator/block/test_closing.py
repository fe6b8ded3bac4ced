"""A node that was closed is gone: nothing of it waits for a search for garbage."""

from __future__ import annotations

import gc
import weakref

import pytest
from image_bench import Bench

from simulator.block.memory_host import MemoryHost

KIB = 1024


@pytest.fixture
def bench():
    host = MemoryHost()
    for name in ("a", "t"):
        host.write_all(f"/{name}", bytes(64 * KIB))
    return Bench(host)


@pytest.fixture
def _no_search_for_garbage():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


FILE = {"driver": "file", "filename": "/a"}
FILTER = {"driver": "copy-before-write", "file": FILE, "target": {"driver": "file", "filename": "/t"}}


@pytest.mark.usefixtures("_no_search_for_garbage")
@pytest.mark.parametrize(
    "options",
    [
        FILE,
        {"driver": "null-co", "size": 64 * KIB},
        {"driver": "raw", "file": FILE},
        {"driver": "qcow2", "file": {"driver": "file", "filename": "/q"}},
        {"driver": "qcow2", "file": {"driver": "file", "filename": "/q"}, "backing": FILE},
        FILTER,
        {"driver": "snapshot-access", "file": FILTER},
    ],
    ids=lambda options: "-".join((options["driver"], *list(options)[1:])),
)
def test_a_closed_node_and_all_below_it_are_let_go(bench, options):
    bench.create("/q", 64 * KIB)

    async def opened_and_closed():
        node = await bench.graph.open(options)
        await node.read(0, KIB)
        kept = [weakref.ref(each) for each in bench.graph.nodes.values()]
        kept.append(weakref.ref(node.driver))
        await bench.graph.release(node)
        return kept

    kept = bench.run(opened_and_closed())
    assert bench.graph.nodes == {}
    assert [each() for each in kept] == [None] * len(kept)
