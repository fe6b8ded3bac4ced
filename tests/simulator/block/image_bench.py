"""Images for tests: a graph on a host, one drive on it, and the real tools beside it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from simulator.block import permissions
from simulator.block.backend import BlockBackend
from simulator.block.drivers import file as file_driver
from simulator.block.drivers import qcow2_create
from simulator.block.errors import QmpError
from simulator.block.graph import Graph
from simulator.block.host import HostProcess
from simulator.engine.chance import Chance
from simulator.engine.scheduler import Scheduler

needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")
WRITER = permissions.CONSISTENT_READ | permissions.WRITE | permissions.RESIZE


class Bench:
    """One process that opens images of `host`; `kill` ends it without closing anything."""

    def __init__(self, host, seed=None):
        self.process = HostProcess(host)
        self.scheduler = Scheduler(Chance(seed) if seed is not None else None)
        self.graph = Graph(self.scheduler, self.process, Chance(1))

    def run(self, coroutine):
        return self.scheduler.run_until(self.scheduler.spawn(coroutine, "test"))

    def run_together(self, *coroutines):
        tasks = [self.scheduler.spawn(coroutine, f"test {i}") for i, coroutine in enumerate(coroutines)]
        return [self.scheduler.run_until(task) for task in tasks]

    def create(self, path, size, **options):
        async def create():
            await file_driver.create(self.graph, {"filename": path, "size": 0})
            node = await self.graph.open({"driver": "file", "filename": path})
            backend = BlockBackend(self.graph, "", permissions.WRITE | permissions.RESIZE, permissions.ALL)
            backend.insert(node)
            try:
                named = {key.replace("_", "-"): value for key, value in options.items()}
                await qcow2_create.create(self.graph, node, {"size": size, **named})
            finally:
                await backend.remove()

        self.run(create())

    def open(self, path, driver="qcow2", writable=True, **options):
        named = {key.replace("_", "-"): value for key, value in options.items()}
        tree = {"driver": driver, "discard": "unmap", "read-only": not writable, **named}
        tree["file"] = {"driver": "file", "filename": path}

        async def opened():
            node = await self.graph.open(tree)
            perm = WRITER if writable else permissions.CONSISTENT_READ
            backend = BlockBackend(self.graph, "", perm, permissions.ALL)
            try:
                backend.insert(node)
            except QmpError:
                await self.graph.release(node)
                raise
            return backend

        return Image(self, self.run(opened()))

    def kill(self):
        self.process.kill()


class Image:
    def __init__(self, bench, backend):
        self.bench, self.backend = bench, backend

    @property
    def node(self):
        return self.backend.node

    @property
    def driver(self):
        return self.backend.node.driver

    def __getattr__(self, name):
        """read, write, write_zeroes, discard, flush: run to their end."""
        return lambda *arguments: self.bench.run(getattr(self.backend, name)(*arguments))

    def resize(self, size, preallocation="off"):
        self.bench.run(self.node.truncate(size, True, preallocation))

    def close(self):
        self.bench.run(self.backend.remove())


def qemu_img(*arguments, check=True):
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def info(path):
    return json.loads(qemu_img("info", "--output=json", path).stdout)


def qemu_content(path, scratch):
    """The disk's bytes as real qemu-img reads them."""
    raw = str(scratch) + ".raw"
    qemu_img("convert", "-O", "raw", str(path), raw)
    with open(raw, "rb") as file:
        return file.read()
