"""The words that options take for a truth value (qapi_bool_parse, qapi/qapi-util.c, 7.2)."""

from __future__ import annotations

TRUE, FALSE = ("on", "yes", "true", "y"), ("off", "no", "false", "n")
