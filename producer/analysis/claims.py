"""Whether a number or a label that stands in a text is what the text claims: not denied, not a bound, not one of several. Pure.

``docs/analysis.md`` lists the rules.
"""

import re
from collections.abc import Sequence
from enum import Enum

from .numbers import Number


class Standing(Enum):
    """What a text makes of a number that stands in it."""

    CLAIMED = "claimed"
    #: Said not to be it, or the number of a step, a figure, a day: what is claimed may stand elsewhere.
    DENIED = "denied"
    #: An operand, as in 6 × 7: what comes out may stand elsewhere.
    OPERAND = "operand"
    #: A bound, a range, one of several, a part of 2時間30分 or of 12π: who says this claims no single number.
    OPEN = "open"


#: What may stand between a number and what is said of it: its unit.
_UNIT = r"\s?(?:[^\W\d_]|[°%]){0,10}?(?:\^-?\d)?\s?"
_FAULT = (
    r"(?:誤り|誤答|間違|不正解|不適|不可|適切で(?:は)?な|正しくな|正しく(?:は)?あ?りませ|違(?:う|い)|足りな|満たさな|合わな|成り立たな|当てはまらな"
    r"|含まれ(?:ない|ません))"
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|cannot|never|neither|nor|rather than|instead of|other than|except|(?:any|every)thing but|all but|none of|rule out|reject"
    r"|discard|exclude|different from|unlike"
    r"|(?:wrong|incorrect|false) (?:option|answer|choice|one|statement)s? (?:is|are|was|were))|n't)\s+"
    r"(?:(?:be|the|an?|exactly|equal(?: to)?|option|choice|answer|simply|just)\s+)*[($\"']*$|(?:≠|!=|\\neq?)\s*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    rf"[)\]」』\"'$]*(?:{_UNIT}(?:では|じゃ|でも)(?:な(?:い(?!か|でしょ|だろ)|く|かった)|ありません(?!か))"
    rf"|{_UNIT}(?:とは(?:言え|いえ|限[らり])|とは?(?:異な|違)|以外|を(?:除|含ま))"
    rf"|{_UNIT}(?:では|[はが])[^。\n]{{0,40}}?{_FAULT}"
    rf"|{_UNIT}で?は[^。、\n]{{1,20}}?(?:ない|ません)(?!か|でしょ|だろ)|を[^。\n]{{0,12}}(?:いけ(?:ない|ません)|べきでは)"
    r"|(?: [a-z]+)?(?:,? which)? (?:(?:is|was|are|were|would be|seems?|looks?)\s+(?:also\s+|clearly\s+)?(?:the\s+|an?\s+)?"
    r"(?:not\b|wrong|incorrect|false|too\b|ruled out|eliminated|excluded)"
    r"|(?:isn't|wasn't|aren't|can't|cannot|doesn't|do(?:es)? not|did not)\b))",
    re.IGNORECASE,
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?)\.?"
)
_NAME_BEFORE = re.compile(
    rf"(?:\b(?:steps?|questions?|problems?|equations?|figures?|tables?|sections?|chapters?|examples?|cases?|{_MONTH})|ステップ|手順|問題?|式|図|表|例)"
    r"\s*\(?$|[a-z]{2}-$",
    re.IGNORECASE,
)
_NAME_AFTER = re.compile(rf"(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b|[章節条項図表問]", re.IGNORECASE)

_BOUND_BEFORE = re.compile(
    r"(?:\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|older|younger|longer|shorter) than(?: or equal to)?"
    r"|at least|at most|up to|over|under|above|below|exceed(?:s|ing)?)\s+(?:about\s+)?"
    r"|(?:少なくとも|最(?:低|大|小|高|少|多)(?:でも|で)?|高々|せいぜい|(?<![=-])[<>≤≥≦≧]=?|\\(?:leq?|geq?|lt|gt))\s*)$",
    re.IGNORECASE,
)
_BOUND_AFTER = re.compile(
    rf"{_UNIT}(?:以上|以下|以内|未満|超|を(?:超|下回|上回)|より(?:も)?(?:大き|小さ|多|少な|長|短|高|低|重|軽))"
    r"|(?:\s+[a-z]+)?\s+or\s+(?:more|less|fewer|greater|higher|lower|above|below|over|under|older|younger|so)\b|\+(?!\s*\d)|\s+plus\b"
    r"|\s*(?:[<>≤≥≦≧]=?|\\(?:leq?|geq?|lt|gt))\s*[a-z]",
    re.IGNORECASE,
)
_SYMBOL_BEFORE = re.compile(r"(?:[√±]|\\(?:pm|sqrt|ln|log|sin|cos|tan)|\b(?:sqrt|ln|log|sin|cos|tan|root of))\s*(?:\[\d\])?[{(]?\s*$")
_SYMBOL_AFTER = re.compile(
    r"\s?(?:[xyn]\b(?!\s*\d)|[π√∞]|\\(?:pi|sqrt|infty|ln|log|sin|cos|tan))|\s?i\b(?!\s+[a-z])|[abcinp-rtu-z](?![a-z])"
    r"|\^[a-z({\\]|_\{?\d|\s?/\s?[abcinkp-rt-z](?![a-z])|\s+and (?:a|one) (?:half|third|quarter)|\s*(?:≠|!=|\\neq?)"
)
_BY = r"(?:plus|minus|times|divided by|multiplied by|mod(?:ulo)?|choose|(?:less|more) than)"
_OPERAND_BEFORE = re.compile(
    rf"[\w)\]%}}]\s*[+*×÷/·^]\s*$|\d\s+[-x]\s+$|\d\s+{_BY}\s+$|\b(?:half|third|quarter|square|cube) of\s+$|\b(?:twice|double)\s+$"
    r"|\d\S*(?: [a-z]+)? (?:out )?of (?:the |these |those |all )?$"
    r"|=\s*\S*\d\S*(?: [a-z]+){0,3} (?:for|in|per|on|after|over|during|within|at) (?:the |these |those |all )?$",
    re.IGNORECASE,
)
_OPERAND_AFTER = re.compile(
    rf"\s*(?:[+*×÷/·^]|-(?!\s)|x(?=\s))\s*[\d(\\√]|\s+-\s+\d|\s+{_BY}\s+\d|\s+(?:squared|cubed)\b|(?:の\d+)?乗|で割|倍(?:す|し)|を(?:掛|か|足|引|\d)",
    re.IGNORECASE,
)
#: Within brackets, beside a comma: an interval, a point, a set.
_TUPLE_BEFORE, _TUPLE_AFTER = re.compile(r"[(\[{][^()\[\]{}]{0,20},\s*$"), re.compile(r"\s*,[^()\[\]{}]{0,20}[)\]}]")
#: Between two numbers that are alternatives, ends of a range, or given together.
_NOUN = r"\s?(?:[^\W\d_ぁ-ん]|[°%]){0,10}?[つこ]?(?:\^-?\d)?\s?"
_JOINER = re.compile(
    rf"[.,]|{_NOUN}(?:\s*[-~〜]\s*|\s*(?:から|か|または|又は|もしくは|あるいは|と|や|及び|および|、?それとも)\s*|,?\s+(?:to|through|or|and)\s+)"
    r"(?:about\s+|約|\$|[a-z]\s?=\s?)?"
)
_LISTED = re.compile(r"(?P<unit>[^\W\d_ぁ-ん]{0,3}[つこ]?)\s*[,、;]\s*(?:(?P<name>[a-z])\s?=\s?)?")
_LIST = re.compile(r"(?:\d[\d.]*[^\W\d_]{0,3}\s*[,、;]\s*)+$")
_NAMED = re.compile(r"(?<![^\s,、;(])(?P<name>[a-z])\s?=\s?$")
#: Units of which several make one quantity: 2時間30分, 5 feet 3 inches.
_PART = (
    r"(?:年|か?月|日|時間?|分|秒|フィート|メートル|ドル|ポンド|hours?|hrs?|h|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?"
    r"|feet|foot|ft|pounds?|lbs?|km|m|cm|kg|g|°|')"
)
_COMPOUND = re.compile(rf"\s?{_PART},?\s?(?:と\s?|and\s)?", re.IGNORECASE)
_FUSED = re.compile(rf"\s?(?!\w?m[23](?!\d)){_PART}\d")
_PART_AFTER = re.compile(rf"\s?(?:{_PART}|inch(?:es)?|in|ounces?|oz|mm|\"|インチ|センチ|セント|ペンス)(?![a-z])", re.IGNORECASE)


def denied(text: str, start: int, end: int) -> bool:
    """Say whether a text says of what stands at a place in it that this is not the answer."""
    return bool(_DENIED_BEFORE.search(text[max(start - 60, 0) : start]) or _DENIED_AFTER.match(text, end))


def standing(text: str, found: Sequence[Number], place: int) -> Standing:
    """Return what a text makes of one of the numbers that were found in it."""
    number = found[place]
    before = text[max(number.start - 60, 0) : number.start]
    if denied(text, number.start, number.end) or _NAME_BEFORE.search(before) or _NAME_AFTER.match(text, number.end):
        return Standing.DENIED
    if _BOUND_BEFORE.search(before) or _BOUND_AFTER.match(text, number.end):
        return Standing.OPEN
    if _SYMBOL_BEFORE.search(before) or _SYMBOL_AFTER.match(text, number.end) or _FUSED.match(text, number.end):
        return Standing.OPEN
    if _TUPLE_BEFORE.search(before) or _TUPLE_AFTER.match(text, number.end):
        return Standing.OPEN
    neighbours = ((place - 1, place), (place, place + 1))
    if any(one >= 0 and other < len(found) and _together(text, found[one], found[other]) for one, other in neighbours):
        return Standing.OPEN
    if _OPERAND_BEFORE.search(before) or _OPERAND_AFTER.match(text, number.end):
        return Standing.OPERAND
    return Standing.CLAIMED


def _together(text: str, one: Number, other: Number) -> bool:
    """Say whether two numbers that follow each other are alternatives, a range, a list, or parts of one quantity."""
    between, ahead = text[one.end : other.start], text[max(one.start - 200, 0) : one.start]
    if _JOINER.fullmatch(between):
        return not one.equals(other)  # 7/2 or 3.5
    if listed := _LISTED.fullmatch(between):
        if listed["name"]:  # of x = 3, y = 5, rather than of 2x = 14, x = 7
            named = _NAMED.search(ahead)
            return named is not None and named["name"] != listed["name"]
        return _LIST.sub("", ahead).rstrip(" $")[-1:] in ("", "(", "[", "{", ":", "=") or bool(
            listed["unit"] and text.startswith(listed["unit"], other.end)
        )
    return bool(_COMPOUND.fullmatch(between) and _PART_AFTER.match(text, other.end))
