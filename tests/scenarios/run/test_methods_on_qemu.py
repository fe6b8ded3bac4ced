"""Both methods on a real storage daemon: stacks, races, endings in any order.

What a client sees there is QEMU's doing; that nothing is left, refused or missed on the way is the methods'.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scenarios.backends.registry import open_backend
from scenarios.language.loader import load_file
from scenarios.run.history import PointInTime
from scenarios.run.runner import run_case

STACKS = """
name: points in time over two disks, ended in another order than they were made
disks: {vda: {size: 4M}, vdb: {size: 2M, format: raw}}
methods: [overlay, snapshot-access]
steps:
  - guest: {disk: vda, write: {at: 0, length: 256k}}
  - fleece: {id: a, disks: [vda, vdb], target: qcow2, target_cluster: 128k}
  - guest: {disk: vda, write: {at: 0, length: 128k}}
  - fleece: {id: b, disks: [vdb]}
  - guest: {disk: vdb, write: {at: 0, length: 128k}}
  - fleece: {id: c, disks: [vda, vdb], target: qcow2}
  - guest: {disk: vda, write: {at: 64k, length: 1M}}
  - together:
      - copy: {from: a}
      - copy: {from: b, connections: 3, chunk: 64k}
      - [copy: {from: c}, end: c]
      - guest: {disk: vda, write: {at: 3M, length: 64k}}
      - guest: {disk: vdb, write: {at: 1M, length: 64k}}
  - end: a
  - copy: {from: b}
"""
RACES = """
name: a client loses races with an end and with a crash
disks: {vda: {size: 4M}}
methods: [overlay, snapshot-access]
steps:
  - guest: {write: {at: 0, length: 2M}}
  - fleece: {id: a}
  - fleece: {id: b}
  - together:
      - copy: {from: a, chunk: 64k}
      - end: {id: b, by: remove-export-hard}
      - copy: {from: b, chunk: 64k}
      - [guest: {write: {at: 0, length: 64k}}, guest: {write: {at: 0, length: 2M}}]
  - together:
      - copy: {from: a, chunk: 32k}
      - [guest: {write: {at: 1M, length: 64k}}, guest: {write: {at: 0, length: 2M}}]
      - [sleep: 3ms, crash: {restart: true}]
  - guest: {read: {at: 0, length: 2M}}
  - fleece: {id: a}
  - guest: {write: {at: 0, length: 64k}}
  - copy: {from: a}
"""
SERVER = """
name: the server stops under another point in time, and a bitmap is frozen while the guest writes
disks: {vda: {size: 4M}}
methods: [overlay, snapshot-access]
steps:
  - qmp: {execute: block-dirty-bitmap-add, arguments: {node: "${vda.node}", name: b0}}
  - fleece: {id: a}
  - fleece: {id: b}
  - end: {id: a, by: stop-server}
  - read: {from: b, length: 64k, error: any}
  - guest: {write: {at: 0, length: 64k}}
  - end: b
  - together:
      - [guest: {write: {at: 64k, length: 64k}}, guest: {write: {at: 128k, length: 64k}}]
      - [guest: {write: {at: 1M, length: 64k}}, guest: {write: {at: 1M, length: 128k}}]
      - fleece: {id: c, bitmap: b0}
  - map: {from: c, context: b0}
  - map: {from: c, context: b0, client: nbdinfo}
  - map: {from: c, context: b0, client: qemu-img}
  - map: {from: c, context: depth}
  - map: {from: c}
  - copy: {from: c}
  - end: c
  - qmp: {execute: block-dirty-bitmap-remove, arguments: {node: "${vda.node}", name: b0}}
"""


@pytest.fixture(scope="module")
def backend():
    for program in ("qemu-storage-daemon", "qemu-img", "nbdinfo"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return open_backend("storage-daemon")


@pytest.mark.parametrize("method", ["overlay", "snapshot-access"])
@pytest.mark.parametrize("spec", [STACKS, RACES, SERVER], ids=["stacks", "races", "server"])
def test_nothing_is_found(backend, tmp_path: Path, spec, method):
    (tmp_path / "spec.yaml").write_text(spec)
    result = run_case(load_file(tmp_path / "spec.yaml"), backend, method, 0)
    found = [finding.explanation for verdict in result.verdicts for finding in verdict.findings]
    assert (result.outcome, found) == ("holds", []), result.reason
    assert len(result.history.of(PointInTime)) == 3
