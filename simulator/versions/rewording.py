"""Texts that a version says otherwise: the model speaks the base's words, which are turned on the way out.

A pair is two templates with {fields}: ("Duplicate nodes with node-name='{node}'", "Duplicate node name").
A field stands for any text; the version's template may have the base's fields in any order, or not at all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable


class Rewording:
    """`reword(text)`: the version's words for the base's. The first pair whose template is all of the text
    counts."""

    __slots__ = ("_compiled", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)
        self._compiled: list[tuple[re.Pattern[str], str]] | None = None

    def __call__(self, text: str) -> str:
        if self._compiled is None:
            self._compiled = [(_pattern(base), own) for base, own in self._pairs]
        for pattern, own in self._compiled:
            found = pattern.fullmatch(text)
            if found is not None:
                # What is left of a text that only lost its beginning may be worded otherwise, too.
                said = own.format(**found.groupdict())
                return said if said == text else self(said)
        return text


def _pattern(template: str) -> re.Pattern[str]:
    """Every field is a group; one that comes again stands for the same text."""
    # Here because it is slow to import, and nothing is refused at start.
    import re

    parts: list[str] = []
    seen: list[str] = []
    for index, piece in enumerate(re.split(r"\{([a-z_]+)\}", template)):
        if index % 2 == 0:
            parts.append(re.escape(piece))
        elif piece in seen:
            parts.append(f"(?P={piece})")
        else:
            seen.append(piece)
            parts.append(f"(?P<{piece}>.*?)")
    return re.compile("".join(parts), re.DOTALL)
