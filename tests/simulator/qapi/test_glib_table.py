"""The order of an object's children: what qom-list of /objects said in QEMU 5.2, 7.2 and 10.0 alike, of
objects that came (object-add) and went (object-del) in this order."""

from __future__ import annotations

from simulator.qapi.glib_table import ChildTable

FIRST = [
    *(f"thread{number}" for number in range(12)),
    "zork",
    "a",
    "b",
    "Ab",
    "io-1",
    "io_2",
    "x.y",
    "memory",
]
GONE = ["thread3", "a", "thread7", "io_2"]
AGAIN = ["a", "late", "later"]
MOST = [name for name in FIRST[2:18] if name not in GONE]


def names(table):
    return [name for name, _ in table.in_qom_order()]


def test_the_order_is_a_hash_tables():
    table = ChildTable()
    for name in FIRST:
        table[name] = None
    assert names(table) == [
        "io_2", "thread8", "thread5", "zork", "thread2", "memory", "thread11", "thread7", "b", "thread4",
        "Ab", "thread1", "thread10", "thread9", "thread6", "a", "thread3", "thread0", "io-1", "x.y",
    ]  # fmt: skip
    for name in GONE:
        del table[name]
    assert names(table) == [
        "thread8", "thread5", "zork", "thread2", "memory", "thread11", "b", "thread4",
        "Ab", "thread1", "thread10", "thread9", "thread6", "thread0", "io-1", "x.y",
    ]  # fmt: skip
    for name in AGAIN:
        table[name] = None
    assert names(table) == [
        "thread8", "thread5", "zork", "thread2", "memory", "thread11", "late", "b", "thread4",
        "Ab", "thread1", "thread10", "thread9", "thread6", "a", "later", "thread0", "io-1", "x.y",
    ]  # fmt: skip
    for name in MOST:
        del table[name]
    assert names(table) == ["memory", "late", "thread1", "a", "later", "thread0", "x.y"]


def test_as_a_dict_it_keeps_the_order_of_coming():
    table = ChildTable()
    for name in FIRST:
        table[name] = name.upper()
    table["zork"] = "again"
    assert list(table) == FIRST
    assert dict(table.in_qom_order())["zork"] == "again"
