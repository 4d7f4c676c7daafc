r"""Where a reply says its final answer: \boxed{42}, #### 42, "The answer is 42.", 「答えは42です。」, "42が正解". Pure.

Every rule has its source in ``docs/analysis.md``.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from .numbers import plain


class Kind(Enum):
    """By which rule a statement was found."""

    BOXED = "boxed"
    HASHES = "####"
    #: After "the answer is": the answer comes first in it.
    AFTER = "after"
    #: After 答えは: the answer comes last, before the verb.
    AFTER_JAPANESE = "after (Japanese)"
    #: Before "is correct" or が正解.
    BEFORE = "before"


class Statement(NamedTuple):
    """What a reply says its answer is."""

    kind: Kind
    text: str


_AFTER = re.compile(
    r"(?:\banswer|\bsolution|\bresult)\b[^.\n:=]{0,60}?(?:\bis\b|\bare\b|\bequals\b|\bwould be\b|\bwill be\b|[:=]|→)(?!\s*not\b)(?:\s*:)?"
    r"|^\W{0,12}(?:the\s+)?(?:final\s+|correct\s+)?answer\W{0,12}\n|^\W{0,12}(?:最終)?(?:答え?|こたえ|解答|回答|正解|結論)\W{0,12}\n"
    r"|(?:最終)?(?:答え?|こたえ|解答|回答|正解|結論|解)\s*(?:[\])】」』>]\s*)?[:=→]|[\[(【「『<](?:最終)?(?:答え?|解答|回答|正解|結論)[\])】」』>]",
    re.IGNORECASE | re.MULTILINE,
)
_AFTER_JAPANESE = re.compile(
    r"(?:答え|こたえ|解答|回答|正解|結論|正答|解|結果|(?:正しい|適切な|当てはまる)(?:もの|選択肢|番号|記号)(?:の番号|の記号)?|求める[^\s。、]{1,10})"
    r"(?:として(?:は|、)|は|が(?!正))[、,:\s]*"
)
_BEFORE = re.compile(
    r"(?P<japanese>[^\s。、,「」]{1,24}?)[」』)]?\s*(?:が|こそ)\s*、?(?:最終的な|最も)?(?:正解|正答|答え|解答|正し(?:い|く)|適切|当てはまる|該当する)"
    r"|(?P<english>(?:\S{1,12}(?:,(?: or| and)?| or| and) ){0,8}\S{1,24}) (?:is|would be) "
    r"(?:the |my |our )?(?:final |correct |right |best )*(?:answer|correct|choice|option)\b",
    re.IGNORECASE,
)
_PHRASES = ((_AFTER, Kind.AFTER), (_AFTER_JAPANESE, Kind.AFTER_JAPANESE), (_BEFORE, Kind.BEFORE))
#: Statements that are looked at, from the end of a reply: one that says it more often is in a loop.
_MOST = 16
#: What a Japanese sentence says its answer is ends here.
_VERB = re.compile(r"(?:です|でした|である|であり|になり|になる|となり|となる|だと|なので|で[、,]|だ(?=。|$)|と(?:考え|思|わか|分か))")
_END = re.compile(r"[。\n!]|\.(?=\s|$)|(?<=[^\d]);")
_NOT_THIS = re.compile(r"[^、。は\s]{1,20}(?:では|じゃ)なく(?:て)?、?|\bnot\b[^,.;]{1,20}(?:,\s*)?\b(?:but|rather)\b", re.IGNORECASE)
_OPERATION = re.compile(r"[×÷+*]|\d\s*[-/]\s*\d")


def boxed(text: str) -> str | None:
    r"""Return what stands in the last ``\boxed{...}`` or ``\fbox{...}`` of a text; None if there is none, or it is not closed."""
    place = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    opening = text.find("{", place)
    if place < 0 or opening < 0 or text[place:opening].strip() not in ("\\boxed", "\\fbox"):
        return None
    depth = 0
    for end in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[opening + 1 : end]
    return None


def statements(reply: str) -> Iterator[Statement]:
    """Yield where a reply says its answer, as ``plain`` text: the surest first and of equal ones the last."""
    inside, text = boxed(reply), plain(reply)
    if inside is not None:
        yield Statement(Kind.BOXED, plain(inside))
    hashes = re.findall(r"####\s*([^\n]+)", text)
    if hashes:
        yield Statement(Kind.HASHES, hashes[-1].strip())
    found = [(match.start(), match, kind) for pattern, kind in _PHRASES for match in pattern.finditer(text)]
    for _, match, kind in sorted(found, key=lambda one: one[0], reverse=True)[:_MOST]:
        said = (match["japanese"] or match["english"]) if kind is Kind.BEFORE else _clause(text, match.end(), kind)
        if said:
            yield Statement(kind, said)


def emphasised(text: str) -> list[tuple[str, str, str]]:
    """Return what stands between ``**`` in a reply as it was written, each with some of what stands before and behind it."""
    return [
        (text[max(match.start() - 80, 0) : match.start()], match[1].strip(), text[match.end() : match.end() + 80])
        for match in re.finditer(r"\*\*([^*\n]{1,80})\*\*", text)
    ]


def without_asides(text: str) -> str:
    """Return a statement without what stands in parentheses, unless that is all there is."""
    bare = re.sub(r"\([^()]{0,200}\)|\[[^\[\]]{0,200}\]", " ", text).strip()
    return bare if re.search(r"\w", bare) else text


def _clause(text: str, start: int, kind: Kind) -> str:
    """Return what is said from a place to the end of the sentence or, in Japanese, to its verb."""
    rest = text[start:].lstrip(" \t\n:=*#>、\"'")[:400]
    end = _END.search(rest)
    clause = _NOT_THIS.sub("", rest[: end.start()] if end else rest)
    for verb in _VERB.finditer(clause):
        said = clause[: verb.start()]
        if re.search(r"\w", said) and (kind is Kind.AFTER or "=" in said or not _OPERATION.search(said)):
            return said.strip()
    return clause.strip()
