"""Options that both command lines read alike."""

import json
import sys
from typing import Any
from urllib.parse import urlsplit

from .errors import UserError


def parse_pairs(option: str, pairs: list[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` arguments as a dict. Raises UserError for one without a key or a value."""
    parsed: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value:
            raise UserError(f"{option} {pair}: write it as KEY=VALUE")
        parsed[key.strip()] = value
    return parsed


def parse_values(option: str, pairs: list[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` arguments as a dict, values read as JSON where they are JSON and as text where not."""
    return {key.replace("-", "_"): _value(value) for key, value in parse_pairs(option, pairs).items()}


def warn_of_password(url: str, variable: str) -> None:
    """Warn of a password that everybody on this machine can read in the process list."""
    if url and urlsplit(url).password and url in sys.argv:
        print(f"warning: the broker's password is visible in the process list; put it into {variable}_PASSWORD instead", file=sys.stderr)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
