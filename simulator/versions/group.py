"""What a group of facts is."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Group:
    """Values that are set once. Unknown names, missing ones and later changes are errors."""

    __slots__ = ()

    def __init__(self, values: dict[str, Any]) -> None:
        for name in values:
            if name not in self.__slots__:
                raise KeyError(
                    f"{type(self).__name__} has no fact {name!r}; it has {', '.join(self.__slots__)}"
                )
        for name in self.__slots__:
            if name not in values:
                raise KeyError(f"{type(self).__name__} lacks a value for {name!r}")
            object.__setattr__(self, name, values[name])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} is frozen")
