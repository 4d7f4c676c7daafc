r"""Numbers as people and models write them: 1,234.5, ３万５千, -2/3, 4分の3, 1.2 million, 25%, \frac{1}{2}, forty-two. Pure."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

#: A number of more digits is no answer, and takes long to compute with.
_MOST_DIGITS = 300

_KANJI = {"〇": 0, "零": 0} | {kanji: value for value, kanji in enumerate("一二三四五六七八九", start=1)}
_SMALL = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "億": 10**8, "兆": 10**12, "京": 10**16}
_SCALES = {"hundred": 10**2, "thousand": 10**3, "k": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: value for value, word in enumerate(_UNITS + _TEENS)} | {word: 10 * tens for tens, word in enumerate(_TENS, start=2)}

#: What is replaced by what.
_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_LATEX: list[_Rule] = [
    (re.compile(r"\\[dtc]frac(?![a-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" \1/\2 "),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r" \1/\2 "),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox|operatorname)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\^\s*\{?\s*\\circ\s*\}?"), "°"),
    (re.compile(r"\^\s*\{\s*([-+]?\d+)\s*\}"), r"^\1"),
    (re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr)(?![a-z])"), ""),
    (re.compile(r"\\(?:times|cdot)(?![a-z])"), "×"),
    (re.compile(r"\\(?:approx|simeq|fallingdotseq)(?![a-z])"), "≈"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r",\\!(?=\d)|\{,\}|(?<=\d)\\,(?=\d)|(?<=\d)\\!(?=\d)"), ""),
    (re.compile(r"\\[()\[\],;:!]|\\ "), " "),
]
#: Rules look across spaces, and a model that loops may write thousands.
_MANY_SPACES = re.compile(r"\s{2,}")
_SIGNS: list[_Rule] = [
    (re.compile(r"(?<=\d)[\u00a0\u2007\u2009\u202f'’_](?=\d{3}(?!\d))"), ""),  # thin spaces, apostrophes, underscores between thousands
    (
        re.compile(r"(?<![\d.,])(\d{1,3}) (\d{3})(?: (\d{3}))(?: (\d{3}))?(?![\d])"),
        lambda match: "".join(part or "" for part in match.groups()),
    ),
    (re.compile(r"(?<![\d.,])(?<![\d.,] )(\d{1,3}) (\d{3})(?![\d/]| \d)"), r"\1\2"),
    (re.compile(r"<(\d[\d.,]*)>"), r"\1"),
    (re.compile(r"</?(?:[a-z][a-z0-9]*|[A-Z]{2,}[A-Z0-9]*)\s*/?>"), " "),
    (re.compile(r"[\u2010-\u2015\u2212\ufe63]"), "-"),
    (re.compile(r"(?<![\w)])(?<![\w)] )-\s+(?=\d+/\d)"), "-"),  # -½
    (re.compile(r"([$¥€£₩]\s?[\d.,]*\d)\s?(?:M|mn)\b"), r"\1 million"),
    (re.compile(r"([$¥€£₩]\s?[\d.,]*\d)\s?(?:B|bn)\b"), r"\1 billion"),
    (re.compile(r"(?:\b(?:minus|negative)\s+|マイナス\s*|[▲△]\s?)(?=[\d$¥€£〇零一二三四五六七八九十百千])", re.IGNORECASE), "-"),
    (re.compile(r"(?:\b(?:US|AU|CA|HK|NT)\s?)?\\?[$¥€£₩]\s?|\b(?:USD|JPY|EUR|GBP)\s?(?=[-\d])"), ""),
]

_ENDLESS = re.compile(rf"\d{{{_MOST_DIGITS},}}")
_DIGITS = r"(?:\d[\d.,]*\d|\d|\.\d+)"
_NUMERALS = "〇零一二三四五六七八九十百千万億兆京"
_MYRIADS = rf"(?:{_DIGITS}(?:[十百千万億兆京]+(?:\d[\d.,]*\d|\d)?)*)"
_SIGN = r"(?:(?<![A-Za-z0-9)\]%^])(?<![0-9)\]%] )[-+])?"
_TAIL = (
    r"(?P<power>[eE][-+]?\d{1,3}(?![\d.])|\s*[×x*·]\s*10\^[-+]?\d{1,3}|\^[-+]?\d{1,3})?"
    r"(?P<scale>\s?(?:hundred|thousand|million|billion|trillion)\b|k\b)?"
    r"(?P<percent>\s?%|\s?percent\b|\s?per cent\b|\s?パーセント)?"
)
#: Kanji that count things. Before any other a numeral is part of a word: 三角形, 一般, 千葉; and so it is behind one: 統一.
_COUNTERS = "個人円本枚歳年月日回時分秒点匹頭台冊杯倍割羽組通曲話巻箱袋束缶瓶皿票戸軒棟室席問株件名社校位人以未超度"
_KANJI_ONLY = (
    rf"(?<![{_NUMERALS}])(?<!(?![約計])[一-龠々])(?!十分|一[度時])(?=[{_NUMERALS[:-4]}])[{_NUMERALS}]+"
    rf"(?![{_NUMERALS}])(?=[{_COUNTERS}](?![一-龠々](?<![以未超間程前後半分目弱強余]))|[^一-龠々]|$)"
)
_BEFORE = r"(?<![A-Za-z_^\d])(?<!\d[.,:/])"


def _pattern(myriads: str) -> re.Pattern[str]:
    return re.compile(
        rf"{_BEFORE}(?P<sign>{_SIGN})(?:"
        rf"(?:(?P<whole>\d+)と)?(?P<under>{myriads})分の(?P<over>{myriads})"
        rf"|(?P<tenths>\d)割(?![りる])(?:(?P<hundredths>\d)分)?(?:(?P<thousandths>\d)厘)?"
        rf"|(?:(?P<mixed>\d+)(?:\s|と))?(?P<numerator>\d+(?:\.\d+)?)\s?/\s?(?P<denominator>\d+(?:\.\d+)?)(?![\d/])"
        rf"|(?P<number>{myriads})(?!\d*:\d))" + _TAIL,
        re.IGNORECASE,
    )


_NUMBER, _KANJI_NUMBER = _pattern(_MYRIADS), _pattern(rf"(?:{_MYRIADS}|{_KANJI_ONLY})")
_WORD_NUMBER = re.compile(
    rf"\b(?:(?P<minus>minus|negative)\s+)?(?P<words>(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})\b"
    rf"(?:(?:[\s-]+(?:and\s+)?)(?:{'|'.join(sorted([*_WORDS, *list(_SCALES)[:2], *list(_SCALES)[3:]], key=len, reverse=True))})\b)*)",
    re.IGNORECASE,
)


class Number(NamedTuple):
    """A number that stands in a text."""

    value: Fraction
    percent: bool
    #: Digits behind the decimal point; None if it was no decimal number.
    decimals: int | None
    start: int
    end: int

    def equals(self, gold: "Number") -> bool:
        """Say whether this number of a reply is the gold one.

        25% is 25 and 0.25 where only one of them has the sign. A reply may be more exact than a gold number
        of two decimals or more: it is rounded.
        """
        if self.percent == gold.percent:
            return _equal(self.value, gold.value, gold.decimals)
        if self.percent:
            return _equal(self.value, gold.value, gold.decimals) or _equal(self.value / 100, gold.value, gold.decimals)
        return _equal(self.value, gold.value, gold.decimals) or _equal(self.value, gold.value / 100, None)


def plain(text: str) -> str:
    """Return a text without what hides numbers: full-width forms, LaTeX, Markdown's emphasis, currency signs, many kinds of minus."""
    text = _MANY_SPACES.sub(lambda match: "\n\n" if match[0].count("\n") > 1 else "\n" if "\n" in match[0] else " ", text)
    text = re.sub(r"[⁰¹²³⁴-⁹⁺⁻]+", lambda match: "^" + match[0].translate(_SUPERSCRIPTS), text)
    text = re.sub(r"[¼-¾⅐-⅞]", lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/"), text)
    for pattern, replacement in _SIGNS[:1]:  # before NFKC makes all spaces equal
        text = pattern.sub(replacement, text)
    text = unicodedata.normalize("NFKC", text.replace("…", " ")).replace("**", "").replace("__", "").replace("`", "")
    for pattern, replacement in [*_LATEX, *_SIGNS[1:]]:
        text = pattern.sub(replacement, text)
    return _ENDLESS.sub(" ", text)


def numbers(text: str, *, spelled: bool = False) -> list[Number]:
    """Return the numbers in a text that went through ``plain``, in order; those in kanji and in English words only if ``spelled``."""
    found = [number for match in (_KANJI_NUMBER if spelled else _NUMBER).finditer(text) for number in _of(match)]
    if spelled and not found:
        found = [Number(Fraction(_spelled(match)), False, None, *match.span()) for match in _WORD_NUMBER.finditer(text)]
    return found


def _of(match: re.Match[str]) -> Iterator[Number]:
    sign = -1 if match["sign"] == "-" else 1
    percent, decimals = match["percent"] is not None, None
    if match["under"] is not None:
        over, under = _value(match["over"]), _value(match["under"])
        value = None if over is None or not under else int(match["whole"] or 0) + over / under
    elif match["tenths"] is not None:
        percent = True
        value = Fraction(10 * int(match["tenths"]) + int(match["hundredths"] or 0)) + Fraction(int(match["thousandths"] or 0), 10)
    elif match["numerator"] is not None:
        under = Fraction(match["denominator"])
        value = int(match["mixed"] or 0) + Fraction(match["numerator"]) / under if under else None
    else:
        value, decimals = _value(match["number"]), _decimals(match["number"])
        if value is None:  # 1,2,3: several numbers
            for part in re.finditer(r"\d+", match["number"]):
                start = match.start("number") + part.start()
                yield Number(Fraction(part[0]), False, 0, start, start + len(part[0]))
            return
    if value is None:
        return
    value = _powered(value, match["power"])
    if match["scale"]:
        value, decimals = value * _SCALES[match["scale"].strip().lower()], None
    yield Number(sign * value, percent, None if match["power"] else decimals, *match.span())


def _value(text: str) -> Fraction | None:
    """Read digits and kanji, such as 1,234.5, 3億5,000万 or 二千二十四; None if they are no number."""
    total, section = Fraction(0), Fraction(0)
    current: Fraction | None = None
    for token in re.findall(r"[\d.,]*\d|\D", text):
        if token in _KANJI:
            current = (current or Fraction(0)) * 10 + _KANJI[token]
        elif token in _SMALL:
            section, current = section + (1 if current is None else current) * _SMALL[token], None
        elif token in _LARGE:
            section += current or 0
            total, section, current = total + (section or 1) * _LARGE[token], Fraction(0), None
        else:
            current = _decimal(token)
            if current is None:
                return None
    return total + section + (current or 0)


def _decimal(digits: str) -> Fraction | None:
    """Read digits with separators. A comma or a point separates thousands where groups of three follow, and decimals elsewhere.

    ``1,234`` is a thousand (as in Japanese and English); ``1.234`` is not; ``3,14`` and ``1.234,5`` are as in most of Europe.
    """
    comma, point = digits.rfind(","), digits.rfind(".")
    if comma >= 0 and point >= 0:
        thousands, mark = (",", ".") if comma < point else (".", ",")
        return Fraction(digits.replace(thousands, "").replace(mark, ".")) if digits.count(mark) == 1 else None
    if comma >= 0:
        if re.fullmatch(r"(?!0\d*,)\d{1,3}(,\d{3})+|\d{1,2}(,\d{2})+,\d{3}", digits):
            return Fraction(digits.replace(",", ""))
        return Fraction(digits.replace(",", ".")) if digits.count(",") == 1 else None
    if digits.count(".") > 1:
        return Fraction(digits.replace(".", "")) if re.fullmatch(r"\d{1,3}(\.\d{3})+", digits) else None
    return Fraction(digits if point != 0 else f"0{digits}")


def _decimals(text: str) -> int | None:
    value = _decimal(text) if re.fullmatch(r"[\d.,]+", text) else None
    if value is None:
        return None
    mark = max(text.rfind("."), text.rfind(","))
    return len(text) - mark - 1 if mark >= 0 and value != Fraction(re.sub(r"\D", "", text)) else 0


def _powered(value: Fraction, power: str | None) -> Fraction:
    if not power:
        return value
    exponent = int(re.search(r"[-+]?\d+$", power)[0])  # type: ignore[index]  # every power ends with one
    if power[0] == "^":
        small = abs(exponent) * max(len(str(value.numerator)), len(str(value.denominator))) <= _MOST_DIGITS
        return value**exponent if small and (value or exponent > 0) else value
    return value * Fraction(10) ** exponent if abs(exponent) <= _MOST_DIGITS else value


def _spelled(match: re.Match[str]) -> int:
    total = current = 0
    for word in re.findall(r"[a-z]+", match["words"].lower()):
        if word == "hundred":
            current = max(current, 1) * 100
        elif word in _SCALES:
            total, current = total + max(current, 1) * _SCALES[word], 0
        elif word != "and":
            current += _WORDS[word]
    return (total + current) * (-1 if match["minus"] else 1)


def _equal(reply: Fraction, gold: Fraction, decimals: int | None) -> bool:
    if reply == gold:
        return True
    if reply.denominator == gold.denominator == 1:
        return False
    if decimals is not None and decimals >= 2:  # half away from zero, as people round
        scale = 10**decimals
        return bool(abs(reply - gold) * scale * 2 <= 1)
    tolerance = Fraction(1, 10**4 if decimals is None else 10**6)  # a fraction may have been divided out: 2/3 is 0.6667
    return bool(abs(reply - gold) <= tolerance * abs(gold))
