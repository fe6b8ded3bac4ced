"""Which kernel modules a guest needs, and in which order they can be loaded."""

from __future__ import annotations

import lzma
from pathlib import Path

from scenarios.backends.interface import SetupError

WANTED = ("virtio_pci", "virtio_blk")


def load_order(folder: Path) -> list[tuple[str, bytes]]:
    """(file name, content, uncompressed) of the WANTED modules below `folder` and of all that they depend on,
    each after what it depends on. A module that is built into the kernel is in no file and left out. Raises
    SetupError if there is none at all."""
    files = {path.name.split(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        path = files.get(name)
        if path is None or name in ordered:
            return
        content = _unpacked(path)
        for other in depends_on(content):
            add(other)
        ordered[name] = content

    for name in WANTED:
        add(name)
    if not ordered:
        raise SetupError(f"{folder}: expected kernel modules such as {WANTED[0]}.ko, there are none")
    return [(f"{name}.ko", content) for name, content in ordered.items()]


def _unpacked(path: Path) -> bytes:
    if path.suffix == ".ko":
        return path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    raise SetupError(f"{path}: expected a kernel module, plain or packed by xz")


def depends_on(module: bytes) -> list[str]:
    """The names in the "depends=" of a module's information section."""
    _, found, rest = module.partition(b"\0depends=")
    names = rest.partition(b"\0")[0].decode() if found else ""
    return [name.replace("-", "_") for name in names.split(",") if name]
