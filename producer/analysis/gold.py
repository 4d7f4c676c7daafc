"""Whether a reply is right: its final answer, found in its words, against a gold one. Pure.

``docs/analysis.md`` lists the rules, each with its source.
"""

import re
import unicodedata
from enum import StrEnum
from typing import NamedTuple

from .choices import choice_of, label_of
from .claims import Standing, standing
from .final import Kind, Statement, boxed, emphasised, statements, without_asides
from .numbers import Number, numbers, plain


class Match(StrEnum):
    """How a reply is held against gold."""

    #: The same words.
    EXACT = "exact"
    #: The same number, however it is written and whatever its unit.
    NUMERIC = "numeric"
    #: The same label: B, (2), ウ.
    CHOICE = "choice"
    #: One of them, by what the gold answer looks like.
    AUTO = "auto"


_LIST_NUMBER = re.compile(
    r"^\s*(?:[-*•]\s*)?(?:(?:step|ステップ|手順|第)\s*\d+\s*[:.)]?|\(?\d{1,2}[.):、](?=\s))", re.MULTILINE | re.IGNORECASE
)
#: Of a date the year is the number: 1867年3月30日, 1867-03-30.
_DATE = re.compile(r"(?<!\d)(\d{4}年)\d{1,2}月(?:\d{1,2}日)?|(?<![\d/-])(\d{4})[-/]\d{1,2}[-/]\d{1,2}(?![\d/-])")
_ONE = re.compile(r"\W*one(?: \w+)?\W*", re.IGNORECASE)
#: Who says this has no answer, whatever numbers stand around it.
_REFUSAL = re.compile(
    r"\bI(?:'m| am)? (?:(?:do not|don't|cannot|can't|could not|couldn't) (?:know|answer|determine|say|tell|solve|find|provide|give|help)"
    r"|unable to|not (?:sure|able))"
    r"|\b(?:cannot|can't|can not) be (?:determined|answered|known|solved)|\b(?:not enough|insufficient) information"
    r"|(?:わか|分か|判)り(?:ません|かねます)|(?:答え|応え|求め|決め|定め)られ(?:ません|ない)"
    r"|(?:[答応]え|回答|判断|特定|計算|確定|断定|決定|算出|推定)(?:する|る)?(?:こと)?(?:は|が)?(?:でき(?:ません|ない)|しかねます)|不明です",
    re.IGNORECASE,
)
#: What may stand before the number of a gold answer, and behind it.
_GOLD_PREFIX = r"(?:[a-z]\s*=\s*|約|およそ|ほぼ|≈|~|about |approximately |approx\.? )?"
_GOLD_UNIT = r"[^\d。!?]{0,16}[.。]?"
_YES_NO = frozenset(("yes", "no", "true", "false", "はい", "いいえ", "正しい", "誤り", "○", "×"))
#: A reply of one sentence that says what something is.
_SENTENCE = re.compile(
    r"[^。\n]*(?:は|とは)[、,]?(?P<japanese>[^は。、\n]+?)(?:です|でした|である|だ)|[^.\n]*?\b(?:is|was|are|were)\s+(?P<english>[^.\n]+)"
)
_COPULA = re.compile(r"(?:です|でした|である|だ|になります|となります)$")


def kind_of(gold: str) -> Match:
    """Return how a gold answer asks to be matched: by a label, by a number, or by its words."""
    text = plain(_told_gold(gold)).strip()
    found = numbers(text)
    if (
        len(found) == 1
        and standing(text, found, 0) is Standing.CLAIMED
        and re.fullmatch(_GOLD_PREFIX, text[: found[0].start], re.IGNORECASE)
        and re.fullmatch(_GOLD_UNIT, text[found[0].end :])
    ):
        return Match.NUMERIC
    if re.fullmatch(r"[〇一二三四五六七八九十百千万億]+[個人円本枚歳年月日回時分秒点]?", text) and numbers(text, spelled=True):
        return Match.NUMERIC
    return Match.CHOICE if label_of(gold) else Match.EXACT


def is_right(reply: str, gold: str, match: Match = Match.AUTO) -> bool | None:
    """Say whether the text of an answer gives the gold one; None if gold is empty, or not what ``match`` wants."""
    gold = gold.strip()
    if not gold:
        return None
    match match if match is not Match.AUTO else kind_of(gold):
        case Match.NUMERIC:
            wanted = number_of(gold)
            found = number_of(reply)
            return None if wanted is None else found is not None and found.equals(wanted)
        case Match.CHOICE:
            label = label_of(gold)
            return None if label is None else choice_of(reply, label) == label
        case _:
            return _says(reply, _told_gold(gold))


def number_of(reply: str) -> Number | None:
    """Return the number that a reply gives as its final answer; None if it gives none, or no single one."""
    reply = _DATE.sub(r"\1\2", reply)
    for statement in _statements(reply):
        said = _said_in(statement)
        if said is not None:
            return said.number
        if statement.kind is Kind.BOXED:
            return None  # it says its answer, and that is no number
    for before, part, after in reversed(emphasised(reply)):
        if kind_of(part) is Match.NUMERIC and not re.fullmatch(r"\(?\d+[.):]", plain(part)):
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


def _statements(reply: str) -> list[Statement]:
    inside = boxed(reply)
    there = [] if inside is None else [Statement(Kind.BOXED, plain(inside))]
    return [*there, *statements(plain(reply))]


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
    for place in reversed(places) if last else places:
        one = standing(text, found, place)
        if one in (Standing.CLAIMED, Standing.OPEN):
            return _Said(found[place] if one is Standing.CLAIMED else None)
    return _Said(None) if whole and one is Standing.OPERAND else None


def _says(reply: str, gold: str) -> bool:
    """Say whether a reply gives gold in the same words: all of it, its final statement, what it emphasises last, or its last line."""
    wanted = _normal(gold)
    if _normal(reply) == wanted:
        return True
    said = _statements(reply)
    if wanted in _YES_NO:
        first = [one.text for one in said[:1]] or [reply]
        return (
            re.match(
                rf"{re.escape(wanted)}(?:$|[^\w\s]|です|である|だ|\s*(?:it|that|this|there|they|he|she|we|i|you|the)\b)", _spaced(first[0])
            )
            is not None
        )
    if said:
        return any(_normal(form) == wanted for form in (said[0].text, without_asides(said[0].text)))
    sentence = _SENTENCE.fullmatch(_spaced(reply))
    if sentence and _normal(sentence["japanese"] or sentence["english"]) == wanted:
        return True
    lines = [line for line in reply.splitlines() if line.strip()]
    return any(_normal(text) == wanted for text in [*(part for _, part, _ in emphasised(reply)[-1:]), *lines[-1:]])


def _told_gold(gold: str) -> str:
    """Return the answer of a gold text that is a whole solution, as those of GSM8K and MATH are."""
    inside = boxed(gold)
    if inside is not None:
        return inside
    return gold.rpartition("####")[2].strip() if "####" in gold else gold


def _spaced(text: str) -> str:
    return plain(text).casefold().strip(" \t\n.。、,;:!?\"'「」『』()*_")


def _normal(text: str) -> str:
    """Return a text without what SQuAD's and JSQuAD's scripts pass over: case, white space, punctuation around it, articles; or です."""
    words = _COPULA.sub("", re.sub(r"\b(?:a|an|the)\s+", " ", _spaced(text))).strip(" .。「」『』\"'")
    return "".join(unicodedata.normalize("NFKC", words).split()).replace("$", "").replace("\\", "")
