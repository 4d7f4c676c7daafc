"""Whether a reply is right: its final answer, found in its words, against a gold one. Pure.

``docs/analysis.md`` lists the rules, each with its source.
"""

import re
import unicodedata
from enum import StrEnum

from .choices import choice_of, label_of
from .final import boxed, emphasised, statements, without_asides
from .numbers import plain
from .quantities import is_quantity, number_of


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


_YES_NO = frozenset(("yes", "no", "true", "false", "はい", "いいえ", "正しい", "誤り", "○", "×"))
#: A reply of one sentence that says what something is.
_SENTENCE = re.compile(
    r"[^。\n]*(?:は|とは)[、,]?(?P<japanese>[^は。、\n]+?)(?:です|でした|である|だ)|[^.\n]*?\b(?:is|was|are|were)\s+(?P<english>[^.\n]+)"
)
_COPULA = re.compile(r"(?:です|でした|である|だ|になります|となります)$")


def kind_of(gold: str) -> Match:
    """Return how a gold answer asks to be matched: by a label, by a number, or by its words."""
    if is_quantity(_told_gold(gold)):
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


def _says(reply: str, gold: str) -> bool:
    """Say whether a reply gives gold in the same words: all of it, its final statement, what it emphasises last, or its last line."""
    wanted = _normal(gold)
    if _normal(reply) == wanted:
        return True
    said = list(statements(reply))
    if wanted in _YES_NO:
        first = [one.text for one in said[:1]] or [reply]
        return (
            re.match(
                rf"{re.escape(wanted)}(?:$|\s*[^\w\s/]|です|である|だ|\s*(?:it|that|this|there|they|he|she|we|i|you|the)\b)",
                _spaced(first[0]),
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
