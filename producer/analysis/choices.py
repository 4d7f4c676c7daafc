"""Which choice a reply takes: B, (2), ③, ウ. Pure.

Every rule has its source in ``docs/analysis.md``.
"""

import re
from typing import NamedTuple

from .claims import denied
from .final import Kind, Statement, statements
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
#: C++, C#, D-Day, Aさん, B型, C言語.
_NO_NAME = r"(?!\+|#|-[A-Za-z]|\s*[<≤≥]|\s+>|>\w|さん|くん|ちゃん|君|氏|社|型|級|組|班|言語)"
_SCRIPTS = (
    _script("A-J", "A-Za-z0-9'’°", rf"{_NO_ARTICLE}{_NO_NAME}"),
    _script("1-9", r"\d.,%"),
    _script("ア-オカ-コ", "ァ-ヶー"),
    _script("イロハニホ", "ァ-ヶー"),
    _script("甲乙丙丁", "一-龠"),
)
_JOIN = re.compile(
    r"[\s)\]】」]*(?:,|、|・|&|/|\band\b|\bor\b|\bnor\b|と|または|および|及び|か|でも)[\s(\[【「]*(?:and\s+|or\s+)?(?:(?:perhaps|maybe|possibly|even)\s+)?"
)
#: A label that begins a line, as one does that says the choice, or lists it.
_LEADING = re.compile(
    r"^[\s(\[【「<]{0,8}(?P<label>[A-Ja-j1-9ア-コロハニホ甲乙丙丁])(?:\s*(?:[)\].:、。】」>]|です|である|だ)|\s*$|\s*[-–—]\s)", re.MULTILINE
)
#: What a label that stands alone in prose follows, if it is the choice: "so B", and not "vitamin B".
_TAKEN = re.compile(
    r"(?:^|[.,;:!?()\[\]\"'*–—-]|[-=]>|(?:答え?|解答|回答|正解)\s|[ぁ-ん、。“”‘’「」『』【】…→⇒∴✓✅]|\b(?:so|is|be|are|(?<=[a-z])'s|only|statement|letter|choose|chose|pick|select|with|say|guess|thus|hence|therefore|then|and|or|but|option|choice|answer))\s*$",
    re.IGNORECASE,
)
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
    text = plain(reply)
    if re.fullmatch(r"\W*[a-j]\W*", text):
        text = text.upper()
    for statement in statements(reply):
        if found := _stated(statement, script):
            return found
    leading = [match for match in _LEADING.finditer(text) if re.fullmatch(f"[{script.letters}]", match["label"].upper())]
    if leading and not text[: leading[0].start("label")].strip(" \n([【「<") and (len(leading) == 1 or not _lists(text, leading[0])):
        place = leading[0].start("label")
        if found := _first(leading[0]["label"].upper() + text[place + 1 :], script, at_once=True):
            return found
    if len(leading) > 1:  # the choices, listed again
        text = _LEADING.sub(" ", text)
    for pattern in (rf"{_NAMED}([{script.letters}])(?![A-Za-z\d])", rf"[(\[]([{script.letters}])[)\]]"):
        named = [match for match in re.finditer(pattern, text, re.IGNORECASE) if not denied(text, *match.span(1))]
        if named:
            place = named[-1].start(1)
            return _last(text[:place] + text[place].upper() + text[place + 1 :], script)
    taken = [labels for place, labels in _groups(text, script) if _TAKEN.search(text[max(place - 20, 0) : place])]
    return taken[-1] if taken else None


def _lists(text: str, leading: re.Match[str]) -> bool:
    """Say whether a label that begins a reply begins a list of choices, rather than saying which one it is."""
    return not re.match(r"[)\]】」>]*(?:です|である|だ|。|\s*$)", text[leading.end("label") :], re.MULTILINE)


def _stated(statement: Statement, script: _Script) -> Label | None:
    text = statement.text.upper() if statement.kind is Kind.BOXED else statement.text
    if lower := re.match(r"\W*(?:option|choice)?\s*[(\[]?([a-j])(?:[)\].]|\W*$)", text, re.IGNORECASE):
        text = text[: lower.start(1)] + lower[1].upper() + text[lower.end(1) :]
    return (_last if statement.kind in (Kind.AFTER_JAPANESE, Kind.BEFORE) else _first)(text, script)


def _first(text: str, script: _Script, *, at_once: bool = False) -> Label | None:
    """Return the first label that a text claims, with those that are joined to it."""
    groups = _groups(text, script)
    return groups[0][1] if groups and (not at_once or groups[0][0] == 0) else None


def _last(text: str, script: _Script) -> Label | None:
    """Return the last label that a text claims, with those that are joined to it."""
    groups = _groups(text, script)
    return groups[-1][1] if groups else None


def _groups(text: str, script: _Script) -> list[tuple[int, Label]]:
    """Return the labels that a text claims, those that are joined together, each with where it begins."""
    groups: list[tuple[int, int, Label]] = []
    for match in script.alone.finditer(text):
        join = _JOIN.match(text, groups[-1][1]) if groups else None
        if join and join.end() == match.start():
            start, _, labels = groups.pop()
            groups.append((start, match.end(), labels | {match[1]}))
        else:
            groups.append((match.start(), match.end(), frozenset(match[1])))
    return [(start, labels) for start, end, labels in groups if not denied(text, start, end)]
