"""An object that does nothing here: it is named by others, and has what it was told."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PlainObject:
    __slots__ = ("properties", "type_name")

    def __init__(self, type_name: str, properties: dict[str, Any]) -> None:
        self.type_name = type_name
        self.properties = properties
