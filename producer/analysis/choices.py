"""Which choice a reply takes: B, (2), ③, ウ. Pure.

Every rule has its source in ``docs/analysis.md``.
"""

import re
from typing import NamedTuple

from .final import Kind, Statement, boxed, statements
from .numbers import plain

Label = frozenset[str]


class _Script(NamedTuple):
    """One way of naming choices."""

    letters: str
    #: One label that stands alone in a text.
    alone: re.Pattern[str]


def _script(letters: str, around: str, not_after: str = "") -> _Script:
    return _Script(letters, re.compile(rf"(?<![{around}])([{letters}])(?![{around}]){not_after}"))


#: "A" before a word is an article rather than a choice, and "I" a pronoun.
_NO_ARTICLE = r"(?!(?<=A)\s+(?!because|since|as|is|and|or|for|which|with|but|due|in|on)[a-z])(?!(?<=I)\s+[a-z'])"
_SCRIPTS = (
    _script("A-J", "A-Za-z0-9'’", _NO_ARTICLE),
    _script("1-9", r"\d.,%"),
    _script("ア-オカ-コ", "ァ-ヶー"),
    _script("イロハニホ", "ァ-ヶー"),
    _script("甲乙丙丁", "一-龠"),
)
_JOIN = re.compile(r"[\s)\]】」]*(?:,|、|・|&|/|\band\b|\bor\b|と|または|および|及び|か)[\s(\[【「]*(?:and\s+|or\s+)?")
_LEADING = re.compile(r"^[\s(\[【「<]*(?P<label>[A-Ja-j1-9ア-コロハニホ甲乙丙丁])(?:\s*[)\].:、】」>]|\s*$|\s*[-–—]\s)", re.MULTILINE)
_NAMED = r"(?:選択肢|選択枝|番号|肢|記号|option|choice)\s*[(\[「]?"


def label_of(gold: str) -> Label | None:
    """Return the label, or the labels, of a gold answer: ``B``, ``(b) Paris``, ``②``, ``ア``, ``A, C``; None if it is none."""
    text = plain(gold).strip()
    if re.fullmatch(r"[(\[【「]?[A-Ja-j](?:[)\]】」.:、].*)?", text, re.DOTALL):
        return frozenset(re.findall(r"[A-J]", text.upper()[:2])[:1])
    if re.fullmatch(r"[A-J](?:\s*(?:,|、|/|・|&|and|と)\s*[A-J])+", text):
        return frozenset(re.findall(r"[A-J]", text))
    match = re.fullmatch(r"[(\[【「]?([1-9ア-コロハニホ甲乙丙丁])(?:[)\]】」.:、].*)?", text, re.DOTALL)
    return frozenset(match[1]) if match else None


def choice_of(reply: str, gold: Label) -> Label | None:
    """Return what a reply chooses among labels of gold's kind; None if it chooses none."""
    script = next(script for script in _SCRIPTS if all(re.fullmatch(f"[{script.letters}]", label) for label in gold))
    inside = boxed(reply)
    text = plain(reply)
    if re.fullmatch(r"\W*[a-j]\W*", text):
        text = text.upper()
    if inside is not None and (found := _first(plain(inside).upper(), script)):
        return found
    for statement in statements(text):
        if found := _stated(statement, script):
            return found
    leading = [match["label"] for match in _LEADING.finditer(text)]
    if len(leading) == 1 and re.match(rf"[\s(\[【「<]*{leading[0]}", text) and re.fullmatch(f"[{script.letters}]", leading[0].upper()):
        return _first(text[text.index(leading[0]) :].replace(leading[0], leading[0].upper(), 1), script, at_once=True)
    for pattern in (rf"{_NAMED}([{script.letters}])(?![A-Za-z\d])", rf"[(\[]([{script.letters}])[)\]]"):
        named = re.findall(pattern, text, re.IGNORECASE)
        if named:
            return frozenset(named[-1].upper())
    alone = script.alone.findall(text)
    return frozenset(alone[-1]) if alone else None


def _stated(statement: Statement, script: _Script) -> Label | None:
    text = statement.text
    if lower := re.match(r"\W*(?:option|choice)?\s*[(\[]?([a-j])(?:[)\].]|\W*$)", text, re.IGNORECASE):
        text = text[: lower.start(1)] + lower[1].upper() + text[lower.end(1) :]
    return (_last if statement.kind is Kind.AFTER_JAPANESE else _first)(text, script)


def _first(text: str, script: _Script, *, at_once: bool = False) -> Label | None:
    """Return the first label of a text, with those that are joined to it."""
    match = script.alone.search(text)
    if match is None or (at_once and match.start() > 0):
        return None
    labels, end = {match[1]}, match.end()
    while (join := _JOIN.match(text, end)) and (more := script.alone.match(text, join.end())):
        labels.add(more[1])
        end = more.end()
    return frozenset(labels)


def _last(text: str, script: _Script) -> Label | None:
    """Return the last label of a text, with those that are joined to it."""
    places = [match.start() for match in script.alone.finditer(text)]
    best: Label | None = None
    end = -1
    for place in places:
        if place <= end:
            continue
        best = _first(text[place:], script)
        end = place + (0 if best is None or len(best) == 1 else places[min(places.index(place) + len(best) - 1, len(places) - 1)] - place)
    return best
