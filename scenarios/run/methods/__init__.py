"""Ways to fleece, one a file, found by name: overlay.py is "overlay", snapshot_access.py "snapshot-access".

Each has begin(x, where, fleece, point) -> ticks before and after T, end(x, where, point, by),
undo(x, where, point).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def find(name: str) -> Any:
    return import_module(f"scenarios.run.methods.{name.replace('-', '_')}")
