"""Names that users may give to what they make (util/id.c, 7.2)."""

from __future__ import annotations


def well_formed_id(text: str) -> bool:
    """id_wellformed, util/id.c: a letter, then letters, digits, '-', '.', '_'."""
    if not text.isascii() or not text[:1].isalpha():
        return False
    return text.isalnum() or text.translate(_ALLOWED_IN_IDS).isalnum()


_ALLOWED_IN_IDS = str.maketrans("", "", "-._")
