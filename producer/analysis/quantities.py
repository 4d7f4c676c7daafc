"""Which number a reply gives as its final answer. Pure.

Every rule has its source in ``docs/analysis.md``.
"""

import re
from typing import NamedTuple

from .claims import Standing, standing
from .final import Kind, Statement, emphasised, statements, without_asides
from .numbers import Number, numbers, plain

#: The number of a list's item.
_LIST_NUMBER = re.compile(r"^\s*(?:[-*•]\s*)?\(?\d{1,2}[.):、](?=\s)", re.MULTILINE)
#: Of a date the year is the number: 1867年3月30日, 1867-03-30.
_DATE = re.compile(r"(?<!\d)(\d{4}年)\d{1,2}月(?:\d{1,2}日)?|(?<![\d/-])(\d{4})[-/]\d{1,2}[-/]\d{1,2}(?![\d/-])")
_ONE = re.compile(r"\W*one(?: \w+)?\W*", re.IGNORECASE)
#: Who says this has no answer, whatever numbers stand around it.
_REFUSAL = re.compile(
    r"\bI(?:'m| am)? (?:(?:do not|don't|cannot|can't|could not|couldn't) (?:know|answer|determine|say|tell|solve|find|provide|give|help)"
    r"|unable to|not (?:sure|able))"
    r"|\b(?:cannot|can't|can not) be (?:determined|answered|known|solved)|\b(?:not enough|insufficient) (?:information|data)"
    r"|(?:わか|分か|判)り(?:ません|かねます)|(?:答え|応え|求め|決め|定め)られ(?:ません|ない)|解(?:け|くことはでき)(?:ません|ない)"
    r"|(?:[答応]え|回答|判断|特定|計算|確定|断定|決定|算出|推定)(?:する|る)?(?:こと)?(?:は|が)?(?:でき(?:ません|ない)|しかねます)|不明です",
    re.IGNORECASE,
)
#: Numbers that are passed over before a text is given up: it is none that says an answer.
_LOOKED_AT = 64
#: What may stand before a number, and behind it, if there is nothing else.
_BEFORE = r"(?:[a-z]\s*=\s*|約|およそ|ほぼ|≈|~|about |approximately |approx\.? )?"
_UNIT = r"[^\d。!?]{0,16}[.。]?"


def is_quantity(text: str) -> bool:
    """Say whether a text is one number with at most a unit."""
    text = plain(text).strip()
    found = numbers(text)
    if len(found) == 1 and standing(text, found, 0) is Standing.CLAIMED:
        number = found[0]
        return bool(re.fullmatch(_BEFORE, text[: number.start], re.IGNORECASE) and re.fullmatch(_UNIT, text[number.end :]))
    kanji = re.fullmatch(r"[〇一二三四五六七八九十百千万億]+[個人円本枚歳年月日回時分秒点]?", text)
    return kanji is not None and bool(numbers(text, spelled=True))


def number_of(reply: str) -> Number | None:
    """Return the number that a reply gives as its final answer; None if it gives none, or no single one."""
    reply = _DATE.sub(r"\1\2", reply)
    for statement in statements(reply):
        said = _said_in(statement)
        if said is not None:
            return said.number
        if statement.kind is Kind.BOXED:
            return None  # it says its answer, and that is no number
    for before, part, after in reversed(emphasised(reply)):
        if is_quantity(part) and not re.fullmatch(r"\(?\d+[.):]", plain(part)):
            ahead = plain(before)
            said = _said(f"{ahead}{plain(part)}{plain(after)}", last=False, within=(len(ahead), len(ahead) + len(plain(part))))
            if said is not None:
                return said.number
    text = plain(reply)
    if _REFUSAL.search(text):
        return None
    text = without_asides(_LIST_NUMBER.sub(" ", text) if "\n" in text.strip() else text)
    said = _said(text, last=True) or _said(plain(reply), last=True)
    return said.number if said else None


class _Said(NamedTuple):
    """What is said to be the answer: a number, or what is not a single one."""

    number: Number | None


def _said_in(statement: Statement) -> _Said | None:
    bare = without_asides(statement.text)
    text = bare if numbers(bare) else statement.text
    behind = max(text.rfind("="), text.rfind("≈")) + 1
    return _said(
        text, last=statement.kind is Kind.AFTER_JAPANESE, whole=True, within=(behind, len(text)) if numbers(text[behind:]) else None
    )


def _said(text: str, *, last: bool, whole: bool = False, within: tuple[int, int] | None = None) -> _Said | None:
    """Return which number a text claims ``within`` two places of it, its first one or its last; None if it speaks of none.

    If ``whole`` the text is all that could claim one: a product of which nothing comes is then no single number.
    """
    found = numbers(text) or numbers(text, spelled=True)
    if not whole and not _ONE.fullmatch(text):  # no one, one of them
        found = [number for number in found if text[number.start : number.end].lower() != "one"]
    first, behind = within or (0, len(text))
    places = [place for place, number in enumerate(found) if first <= number.start < behind]
    one = Standing.DENIED
    for place in places[: -_LOOKED_AT - 1 : -1] if last else places[:_LOOKED_AT]:
        one = standing(text, found, place)
        if one in (Standing.CLAIMED, Standing.OPEN):
            return _Said(found[place] if one is Standing.CLAIMED else None)
    return _Said(None) if whole and one is Standing.OPERAND else None
