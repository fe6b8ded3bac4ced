"""A transaction that fails and changes something is found; one that changes nothing passes."""

from __future__ import annotations

from typing import Any

import pytest
from made_histories import Made

from scenarios.judges.atomicity import judge


def failed(before: Any, after: Any, query: str = "query-named-block-nodes", between: bool = False) -> Made:
    """A history in which a query returns `before`, a transaction fails, and it returns `after`; `between`:
    the guest writes meanwhile."""
    made = Made()
    made.command(query).returns = before
    transaction = made.command("transaction", actions=[])
    transaction.returns, transaction.error_class, transaction.error_desc = None, "GenericError", "no"
    if between:
        made.write(0, 512, 0x11)
    made.command(query).returns = after
    return made


CHANGES = {
    "a job more": ([], [{"id": "j0"}], "$ had 0 items, now 1"),
    "a bitmap's count": ([{"count": 65536}], [{"count": 0}], "$[0].count was 65536, now 0"),
    "a member more": ([{}], [{"device": "d"}], "$[0].device has come"),
    "a member less": ([{"backing": {"drv": "raw"}}], [{}], "$[0].backing has gone"),
    "deep inside": ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "$.a.b[1] was 2, now 3"),
    "a bitmap's busy": ([{"busy": False}], [{"busy": True}], "$[0].busy was False, now True"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_named(name: str) -> None:
    before, after, words = CHANGES[name]
    verdict = judge(failed(before, after).history)
    assert verdict.outcome == "invalid"
    [finding] = verdict.findings
    assert words in finding.explanation
    assert [type(record).__name__ for record in finding.evidence] == ["QmpExchange"] * 3


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_changed(name: str) -> None:
    before = CHANGES[name][0]
    assert judge(failed(before, before).history).outcome == "valid"


def test_what_moves_by_itself_does_not_count() -> None:
    assert judge(failed([{"actual-size": 1}], [{"actual-size": 2}]).history).outcome == "valid"
    assert judge(failed([{"busy": False}], [{"busy": True}], "query-block-jobs").history).outcome == "valid"


def test_what_something_else_may_have_changed_does_not_count() -> None:
    assert judge(failed([1], [2], between=True).history).outcome == "valid"


def test_a_transaction_that_succeeds_may_change_everything() -> None:
    made = failed([1], [2])
    transaction = next(each for each in made.history.records if getattr(each, "command", "") == "transaction")
    transaction.error_class = transaction.error_desc = None
    assert judge(made.history).outcome == "valid"
