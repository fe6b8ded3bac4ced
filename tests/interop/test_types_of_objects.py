"""What the real programs and the simulator tell of types of objects. QEMU's order is that of a hash table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from both_programs import DAEMON, SYSTEM, start

TYPES = (
    "nope",
    "pci-device",
    "iothread",
    "container",
    "virtio-blk-pci",
    "virtio-blk",
    "scsi-hd",
    "throttle-group",
)
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    *(("qom-list-types", {} if each is None else {"abstract": each}) for each in (None, True, False)),
    *(
        ("qom-list-types", {"implements": each})
        for each in ("nope", "object", "pci-device", "iothread", "scsi-hd")
    ),
    ("qom-list-types", {"implements": "device", "abstract": True}),
    *(("qom-list-properties", {"typename": each}) for each in TYPES),
    *(("device-list-properties", {"typename": each}) for each in TYPES),
    ("qom-list-properties", {}),
]


@pytest.mark.parametrize("program", [SYSTEM, DAEMON])
def test_the_same_types_and_properties(program: str, tmp_path: Path) -> None:
    answers: list[list[Any]] = []
    for is_real in (True, False):
        with start(program, is_real, tmp_path) as running:
            running.negotiate()
            answers.append([running.qmp(*question) for question in QUESTIONS])
    for question, real, simulated in zip(QUESTIONS, *answers, strict=True):
        if isinstance(real, list):
            real, simulated = (
                sorted(each, key=lambda entry: str(entry["name"])) for each in (real, simulated)
            )
        assert real == simulated, question
