"""Does the machine say only what its own introspection promises?

Every value that a command returned and every event's data must be of the type that query-qmp-schema gives it:
nothing missing, nothing extra, nothing of another type. So must the class of every error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scenarios.judges.verdict import Finding, Verdict
from scenarios.run.history import History, QmpEvent, QmpExchange, Record
from simulator.qapi.reply import validate_event, validate_reply
from simulator.qapi.schema import Schema

_NAME = "schema_valid"
# qapi/error.json, QapiErrorClass.
_ERROR_CLASSES = ("GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap")


def judge(history: History) -> Verdict:
    """unknown without introspection; commands that never returned are nobody's business here."""
    if not history.introspection:
        return Verdict(_NAME, "unknown", reason="the history holds no introspection to judge replies by")
    schema = _schema_of(history.introspection)
    findings = [
        Finding(f"{what} does not fit the schema: {'; '.join(wrong)}", [record])
        for record, what, wrong in _checked(history, schema)
        if wrong
    ]
    return Verdict(_NAME, "invalid" if findings else "valid", findings)


def _schema_of(introspection: list[dict[str, Any]]) -> Schema:
    """The last one is kept: the histories of a gate's runs share one introspection."""
    if not _last or _last[0].entries is not introspection:
        _last[:] = [Schema(introspection)]
    return _last[0]


_last: list[Schema] = []


def _checked(history: History, schema: Schema) -> Iterator[tuple[Record, str, list[str]]]:
    for record in history.records:
        if isinstance(record, QmpEvent):
            yield record, f"event {record.name}", validate_event(schema, record.name, record.data)
        elif isinstance(record, QmpExchange) and record.error_class is not None:
            known = record.error_class in _ERROR_CLASSES
            wrong = [] if known else [f"$.error.class: {record.error_class!r} is no QapiErrorClass"]
            yield record, f"error of {record.command}", wrong
        elif isinstance(record, QmpExchange) and record.end is not None:
            wrong = validate_reply(schema, record.command, record.returns)
            yield record, f"reply to {record.command}", wrong
