"""The parts of a page that are the same for all data: its head with the policy, its styles, its scripts."""

import base64
import hashlib
import json
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple, Self

_PAGE = files("producer.analysis") / "page"
#: In the order in which they need each other.
_SCRIPTS = (
    "vendor/dompurify-3.4.18.min.js",
    "vendor/markdown-it-15.0.3.min.js",
    "elements.js",
    "text.js",
    "data.js",
    "markdown.js",
    "judging.js",
    "finding.js",
    "list.js",
    "question.js",
    "bar.js",
    "files.js",
    "help.js",
    "keys.js",
    "main.js",
)


class Frame(NamedTuple):
    """What stands before and behind the data."""

    head: str
    foot: str

    @classmethod
    def read(cls, title: str) -> Self:
        style = (_PAGE / "page.css").read_text(encoding="utf-8")
        script = "\n".join((_PAGE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
        assert not any(tag in script.lower() for tag in ("</script", "<script")), "a parser of HTML would see a tag there"
        shown = escape(title.encode("utf-8", "replace").decode())
        head = _HEAD.format(policy=_policy(style, script), title=shown, style=style)
        return cls(head, f"<script>{script}</script>\n</body>\n</html>\n")


def safe_json(value: Any) -> str:
    """Return JSON that can stand in a script element: in ASCII, and nothing in it looks like a tag."""
    return json.dumps(value).replace("<", "\\u003c")


def _policy(style: str, script: str) -> str:
    """Nothing is loaded from anywhere; only this very style and script apply; strings become HTML by way of the sanitiser alone."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types dompurify",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta http-equiv="x-dns-prefetch-control" content="off">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<div id="app"><p class="opening">Opening …</p></div>
<noscript><p class="opening">This page needs JavaScript. It loads nothing from anywhere.</p></noscript>
"""
