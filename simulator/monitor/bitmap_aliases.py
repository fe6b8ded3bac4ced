"""Names under which dirty bitmaps go to another machine: the parameter block-bitmap-mapping.

Source: construct_alias_map and check_dirty_bitmap_mig_alias_map, migration/block-dirty-bitmap.c, 7.2.
"""

from __future__ import annotations

from simulator.block.bitmap import MAX_NAME_BYTES
from simulator.block.errors import QmpError
from simulator.block.ids import well_formed_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_ALIAS_BYTES = 255
_MAX_NODE_NAME_BYTES = 31


def check(mapping: list[dict[str, Any]]) -> None:
    """A list of BitmapMigrationNodeAlias. Raises QmpError unless each tells the other."""
    for by_name in (True, False):
        _check_one_way(mapping, by_name)


def _check_one_way(mapping: list[dict[str, Any]], by_name: bool) -> None:
    known: list[str] = []
    for node in mapping:
        name, alias = node["node-name"], node["alias"]
        if not well_formed_id(alias):
            raise QmpError(f"The node alias '{alias}' is not well-formed")
        _check_length("node alias", alias, _MAX_ALIAS_BYTES)
        _check_length("node name", name, _MAX_NODE_NAME_BYTES)
        if by_name and name in known:
            raise QmpError(f"The node name '{name}' is mapped twice")
        if not by_name and alias in known:
            raise QmpError(f"The node alias '{alias}' is used twice")
        known.append(name if by_name else alias)
        _check_bitmaps(node, by_name)


def _check_bitmaps(node: dict[str, Any], by_name: bool) -> None:
    known: list[str] = []
    for bitmap in node["bitmaps"]:
        name, alias = bitmap["name"], bitmap["alias"]
        _check_length("bitmap alias", alias, _MAX_ALIAS_BYTES)
        _check_length("bitmap name", name, MAX_NAME_BYTES)
        if by_name and name in known:
            raise QmpError(f"The bitmap '{node['node-name']}'/'{name}' is mapped twice")
        if not by_name and alias in known:
            raise QmpError(f"The bitmap alias '{node['alias']}'/'{alias}' is used twice")
        known.append(name if by_name else alias)


def _check_length(what: str, text: str, most: int) -> None:
    if len(text.encode()) > most:
        raise QmpError(f"The {what} '{text}' is longer than {most} bytes")
