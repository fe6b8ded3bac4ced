"""Values of a device's properties: how they are read, and which of them it does not take.

Source: hw/core/qdev-properties.c, hw/core/qdev-properties-system.c (set_blocksize),
qapi/qobject-input-visitor.c, 7.2. What does not go together: simulator/block/device_limits.py.
"""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.qapi.integers import (
    UINT64_MAX,
    UNSIGNED_BITS,
    NumberError,
    bounds,
    to_int64,
    to_size,
    to_uint64,
)
from simulator.qapi.truth import FALSE, TRUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SECTOR_BYTES = 512
_MAX_BLOCK_BYTES = 2 << 20
_BLOCK_SIZES = ("logical_block_size", "physical_block_size")
# Properties with a reader of their own, whatever their type is called.
_READ_ELSEWHERE = ("addr",)
_ENUMS = {
    "OnOffAuto": ("auto", "on", "off"),
    "BlockdevOnError": ("report", "ignore", "enospc", "stop", "auto"),
}
# What a property says where realizing the device found the value, in a machine of one CPU.
FOUND = {"logical_block_size": _SECTOR_BYTES, "physical_block_size": _SECTOR_BYTES, "num-queues": 1}
# Found too, and not modelled.
FOUND_OTHERWISE = (
    "addr", "discard_granularity", "scsi-id", "lun", "channel", "vectors", "class", "romsize",
    "cyls", "heads", "secs", "lcyls", "lheads", "lsecs",
)  # fmt: skip
_FIRST_SIZE_TOO_LARGE = 1 << 32


class Values:
    """Reads what was given for the properties of one device.

    types: name -> QOM's type. is_typed: values are JSON's own, and not text whatever they were.
    owner, sized_owner: what messages about block sizes, and about other sizes, call the device.
    wanted: "int", "uint" and "size" -> what text is expected to be.
    """

    def __init__(
        self,
        types: Mapping[str, str],
        is_typed: bool,
        owner: str,
        sized_owner: str,
        wanted: Mapping[str, str],
    ) -> None:
        self._types = types
        self._is_typed = is_typed
        self._owner = owner
        self._sized_owner = sized_owner
        self._wanted = wanted

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """name -> value, of those with a type that is looked at. Raises QmpError for the first that is
        wrong."""
        return {
            name: self._read(name, self._types[name], value)
            for name, value in given.items()
            if name in self._types and name not in _READ_ELSEWHERE
        }

    def _read(self, name: str, kind: str, value: Any) -> Any:
        if kind.startswith(("int", "uint")) or kind == "size":
            number = _typed_number(name, kind, value) if self._is_typed else self._number(name, kind, value)
            return self._checked(name, kind, number)
        if kind == "bool":
            return self._truth(name, value)
        if self._is_typed and not isinstance(value, str) and kind in ("str", *_ENUMS):
            raise _wrong_type(name, "string")
        if kind in _ENUMS and as_text(value) not in _ENUMS[kind]:
            raise QmpError(f"Parameter '{name}' does not accept value '{as_text(value)}'")
        return as_text(value)

    def _number(self, name: str, kind: str, value: Any) -> int:
        text = as_text(value)
        try:
            if kind == "size":
                return to_size(text)
            return to_uint64(text) if kind in UNSIGNED_BITS else to_int64(text)
        except NumberError:
            raise QmpError(f"Parameter '{name}' expects {self._wanted[kind.rstrip('0123456789')]}") from None

    def _checked(self, name: str, kind: str, number: int) -> int:
        least, most = bounds(kind)
        if not least <= number <= most:
            raise QmpError(f"Parameter '{name}' expects {kind}_t")
        if name in _BLOCK_SIZES:
            self._check_block_size(name, number)
        elif kind == "size" and number >= _FIRST_SIZE_TOO_LARGE:
            raise QmpError(
                f"Property {self._sized_owner}.{name} doesn't take value {number} "
                f"(maximum: {_FIRST_SIZE_TOO_LARGE - 1})"
            )
        return number

    def _check_block_size(self, name: str, number: int) -> None:
        what = f"Property {self._owner}.{name} doesn't take value"
        if number and not _SECTOR_BYTES <= number <= _MAX_BLOCK_BYTES:
            raise QmpError(f"{what} {number} (minimum: {_SECTOR_BYTES}, maximum: {_MAX_BLOCK_BYTES})")
        if number & (number - 1):
            raise QmpError(f"{what} '{number}', it's not a power of 2")

    def _truth(self, name: str, value: Any) -> bool:
        if self._is_typed:
            if not isinstance(value, bool):
                raise _wrong_type(name, "boolean")
            return value
        text = as_text(value)
        if text not in (*TRUE, *FALSE):
            raise QmpError(f"Parameter '{name}' expects 'on' or 'off'")
        return text in TRUE


def as_text(value: Any) -> str:
    """As option text has it (qemu_opts_from_qdict)."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _wrong_type(name: str, wanted: str) -> QmpError:
    return QmpError(f"Invalid parameter type for '{name}', expected: {wanted}")


def _typed_number(name: str, kind: str, value: Any) -> int:
    """A negative number is taken for a large one where there are none (qobject_input_type_uint64)."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if kind in UNSIGNED_BITS:
        if not is_number:
            raise QmpError(f"Parameter '{name}' expects uint64")
        return int(value) & UINT64_MAX
    if not is_number:
        raise _wrong_type(name, "integer")
    return int(value)
