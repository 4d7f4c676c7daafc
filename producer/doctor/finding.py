"""One thing that the doctor found: what it is about, how bad it is, and what to do."""

from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How bad it is. Only problems keep Kotae from working, or put answers and questions at risk."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """What was found, in one sentence, and what to do about it (empty where there is nothing to do)."""

    part: str
    level: Level
    says: str
    do: str = ""


def ok(part: str, says: str) -> Finding:
    """Return a finding with which all is well."""
    return Finding(part, Level.OK, says)


def warning(part: str, says: str, do: str) -> Finding:
    """Return a finding that may become a problem."""
    return Finding(part, Level.WARNING, says, do)


def problem(part: str, says: str, do: str) -> Finding:
    """Return a finding that keeps Kotae from working, or puts something at risk."""
    return Finding(part, Level.PROBLEM, says, do)
