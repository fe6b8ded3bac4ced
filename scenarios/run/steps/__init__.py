"""What the verbs of the language do, one a file, found by the verb's name: each has run(x, action, where).

They raise NotAsExpectedError, and whatever the session raises; the runner turns that into records.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from scenarios.language.steps import VERBS


def all_verbs() -> dict[str, Any]:
    """The function of each verb."""
    return {verb: import_module(f"scenarios.run.steps.{verb}").run for verb in VERBS}
