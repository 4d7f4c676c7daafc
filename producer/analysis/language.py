"""Which language a text is in, by its script: enough to see a Japanese question answered in English. Pure.

A rule instead of a library: those that tell languages of one script apart weigh 100 MB and guess at short answers.
"""

import re
import unicodedata
from collections import Counter, defaultdict

#: What is no language: code, formulas, tags, addresses.
_NO_WORDS = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\\[A-Za-z]+|</?\w+>|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")
_CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")
#: A word of letters weighs as much as so many characters of a script without spaces.
_WORD_WEIGHT = 1.5
#: A Japanese text of so many characters has kana among them.
_SURELY_CHINESE = 12
#: So few words in Latin letters are a name or a formula in any language.
_NAME = 3


def language(text: str) -> str:
    """Return ``ja``, ``zh``, ``ko``, ``latin``, ``cyrillic``, ... by the script of most of a text; ``han`` if a few Chinese characters are
    all there is (東京 may be Japanese), ``name`` for three words or fewer in Latin letters; empty if there are no letters.

    Kana make a text Japanese; code, formulas and tags do not count.
    """
    weights: dict[str, float] = defaultdict(float)
    words = 0
    for word in _WORD.finditer(_NO_WORDS.sub(" ", unicodedata.normalize("NFKC", text))):
        scripts = Counter(_script(letter) for letter in word[0])
        for script, letters in scripts.items():
            if script in _CJK:
                weights[script] += letters
            else:
                weights[script] += _WORD_WEIGHT
                words += script == "LATIN"
    kana, han = weights["HIRAGANA"] + weights["KATAKANA"], weights["CJK"]
    weights |= {"CJK": kana + han, "HIRAGANA": 0, "KATAKANA": 0}
    script, weight = max(weights.items(), key=lambda item: item[1])
    if not weight:
        return ""
    if script == "CJK":
        return "ja" if kana * 20 >= han and kana else "zh" if han >= _SURELY_CHINESE else "han"
    if script == "LATIN":
        return "latin" if words > _NAME else "name"
    return "ko" if script == "HANGUL" else script.lower()


def same_language(question: str, answer: str) -> bool | None:
    """Say whether an answer is in the language of its question, by what ``language`` says of both; None if that cannot be told."""
    if not question or not answer or "name" in (question, answer):
        return None
    if "han" in (question, answer):
        return True if {question, answer} <= {"han", "ja", "zh"} else None
    return question == answer


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if first in ("CJK", "IDEOGRAPHIC") else first.partition("-")[0]
