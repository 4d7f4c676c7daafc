"""Measures of replies: how much of a text repeats itself, how much stands in another one, which language it is in. Pure.

Repetition is measured in words; a script without spaces between words, such as Japanese, is read character by character, and five of its
characters weigh as much as two words. ``docs/analysis.md`` defines every measure and names its source.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import eq
from typing import NamedTuple

#: What units weigh, and what a span must weigh to count as a copy: four words (the 4 of seq-rep-4), or ten characters without spaces.
_WORD, _CHARACTER, _SPAN = 5, 2, 20
#: A whole sentence counts from this weight on: two words, or five characters.
_SENTENCE = 10
#: Longer words, and longer runs of one mark, are read character by character: a loop may have no spaces in any script.
_LONGEST_WORD, _LONGEST_RULE = 24, 100

#: What is said in a row may say a span several times itself: how many earlier ones are looked at, and how many periods are tried.
_LOOKED_BACK, _TRIED = 8, 16

#: Scripts that are written without spaces between words.
_UNSPACED = (
    "\u3005-\u3007\u3041-\u3096\u30a1-\u30fa\u30fc\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"
)
#: A unit, or the end of a sentence. A run of one mark, such as a line of dashes, is a word; any other punctuation is nothing,
#: and so is the number of a list's item: models count on while they loop.
_UNIT = re.compile(
    rf"^[ \t]*\d{{1,4}}[.)、](?=\s)|[{_UNSPACED}]|(?:[^\W{_UNSPACED}]|(?<=\w)['’.,](?=\w))+|([^\w\s.!?])\1{{3,}}|[.!?。\n]+",
    re.MULTILINE,
)
_ENDS = ".!?。\n)、"
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]").match


class Repetition(NamedTuple):
    """How much a text repeats itself."""

    #: Of its units (words or characters), the share that only copies what the text has said before: 0 to 1.
    share: float
    #: Welleck et al. (2020): 1 minus distinct 4-grams by 4-grams.
    seq_rep_4: float
    #: Characters of the longest span that stands there at least twice (overlapping, as in a loop), and its text; 0 and "" if none counts.
    longest: int
    span: str
    #: What is said again and again without a break, and how many times in a row; "" and 0 if nothing is.
    loop: str
    times: int


NO_REPETITION = Repetition(0.0, 0.0, 0, "", "", 0)


class _Units(NamedTuple):
    """A text, normalised, as units."""

    text: str
    #: What each unit says, and what it weighs.
    words: list[str]
    weights: list[int]
    #: Of every sentence its first unit and the one behind its last.
    sentences: list[tuple[int, int]]
    #: All spans that are just heavy enough to count, likewise.
    spans: list[tuple[int, int]]

    def whole_sentences(self) -> Iterator[tuple[int, int]]:
        """Yield the sentences that are long enough to count."""
        return ((start, end) for start, end in self.sentences if sum(self.weights[start:end]) >= _SENTENCE)

    def places(self) -> list[tuple[int, int]]:
        """Return where each unit stands in the text."""
        places: list[tuple[int, int]] = []
        for match in _UNIT.finditer(self.text):
            if _is_no_word(match[0]):
                places.extend((place, place + 1) for place in range(*match.span()))
            elif match[0][-1] not in _ENDS:
                places.append(match.span())
        return places


def repetition(text: str) -> Repetition:
    """Measure how much a text repeats itself.

    A unit is a copy if it lies in a span of four words (ten characters of Japanese), or in a whole sentence, that the text has said
    before. Copies add up: a text without repeats has 0, two texts that share nothing have the mean of theirs, and whatever is said
    again makes the share grow.
    """
    units = _read(text)
    copied = bytearray(len(units.words))
    latest: dict[tuple[str, ...], tuple[int, ...]] = {}
    periods: Counter[int] = Counter()  # how far behind an earlier one a span comes again
    total = 0
    for start, end in units.spans:
        total += 1
        key = tuple(units.words[start:end])
        earlier = latest.get(key, ())
        if earlier:
            copied[start:end] = b"\1" * (end - start)
            periods.update([start - place for place in earlier])
        latest[key] = (*earlier[1 - _LOOKED_BACK :], start)
    seen: set[tuple[str, ...]] = set()
    again = (0, 0)
    for start, end in units.whole_sentences():
        key = tuple(units.words[start:end])
        if key in seen:
            copied[start:end] = b"\1" * (end - start)
            again = max(again, (start, end), key=lambda place: place[1] - place[0])
        seen.add(key)
    if not any(copied):
        return NO_REPETITION
    places = units.places()

    def said(start: int, end: int) -> str:
        return units.text[places[start][0] : places[end - 1][1]]

    first, behind = _longest_repeat(units.words) if periods else again
    loop, times = _loop(units, periods)
    span = said(first, behind)
    share, seq_rep_4 = sum(copied) / len(copied), (total - len(latest)) / total if total else 0.0
    return Repetition(share, seq_rep_4, len(span), span, said(*loop) if times else "", times)


def copied(reasoning: str, answer: str) -> float:
    """Return the share of a reasoning that stands in the answer as well: 0 to 1, and 1 if they are the same.

    This is the coverage by extractive fragments of Grusky et al. (2018), with the spans of ``repetition`` as the shortest fragments.
    """
    ours, theirs = _read(reasoning), _read(answer)
    if not ours.words or not theirs.words:
        return 0.0
    if ours.words == theirs.words:
        return 1.0
    found = bytearray(len(ours.words))
    for pairs, candidates in ((ours.spans, theirs.spans), (ours.whole_sentences(), theirs.whole_sentences())):
        there = {tuple(theirs.words[start:end]) for start, end in candidates}
        for start, end in pairs if there else ():
            if tuple(ours.words[start:end]) in there:
                found[start:end] = b"\1" * (end - start)
    return sum(found) / len(found)


def normalised(text: str) -> str:
    """Return a text as it is compared: NFKC, and neither case nor white space counts."""
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


@lru_cache(maxsize=4)  # a reply's reasoning is measured for itself, and against the answer
def _read(text: str) -> _Units:
    text = unicodedata.normalize("NFKC", text)
    words: list[str] = []
    weights: list[int] = []
    sentences: list[tuple[int, int]] = []
    sentence = 0
    for match in _UNIT.finditer(text):
        word = match[0]
        if len(word) == 1 and word >= "\u0e00" and _IS_UNSPACED(word):
            words.append(word)
            weights.append(_CHARACTER)
        elif len(word) > _LONGEST_WORD and _is_no_word(word):
            words.extend(word)
            weights.extend([_CHARACTER] * len(word))
        elif word[-1] in _ENDS:
            if len(words) > sentence:
                sentences.append((sentence, len(words)))
                sentence = len(words)
        else:
            words.append(word)
            weights.append(_WORD)
    if len(words) > sentence:
        sentences.append((sentence, len(words)))
    return _Units(text, list(map(str.casefold, words)), weights, sentences, _spans(weights))


def _spans(weights: Sequence[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    end = weight = 0
    for start, gone in enumerate(weights):
        while weight < _SPAN and end < len(weights):
            weight += weights[end]
            end += 1
        if weight < _SPAN:
            break
        spans.append((start, end))
        weight -= gone
    return spans


def _is_no_word(word: str) -> bool:
    return len(word) > _LONGEST_WORD and (word[0].isalnum() or len(word) > _LONGEST_RULE)


def _longest_repeat(words: Sequence[str]) -> tuple[int, int]:
    """Return the first unit, and the one behind the last, of the later place of the longest sequence that stands there twice.

    By names of all sequences of 1, 2, 4, ... units (Karp, Miller & Rosenberg, 1972): n log n, whatever the text.
    """
    known: dict[object, int] = {}
    names = [[known.setdefault(word, len(known)) for word in words]]

    def repeated(length: int) -> int | None:
        level = min(length.bit_length() - 1, len(names) - 1)
        last, step = names[level], length - (1 << level)
        seen: set[tuple[int, int]] = set()
        for place in range(len(words) - length + 1):
            pair = (last[place], last[place + step])
            if pair in seen:
                return place
            seen.add(pair)
        return None

    low, place = 0, 0
    while (found := repeated(size := 1 << (len(names) - 1))) is not None:
        low, place = size, found
        pairs: dict[tuple[int, int], int] = {}
        last = names[-1]
        names.append([pairs.setdefault((last[k], last[k + size]), len(pairs)) for k in range(len(last) - size)])
    high = 1 << (len(names) - 1)  # no sequence of this length stands there twice
    while high - low > 1:
        middle = (low + high) // 2
        if (found := repeated(middle)) is None:
            high = middle
        else:
            low, place = middle, found
    return place, place + low


def _loop(units: _Units, periods: Counter[int]) -> tuple[tuple[int, int], int]:
    """Return where that stands first which covers most by being said in a row, and how many times it is said."""
    most, body, times = 0, (0, 0), 0
    for period, _ in sorted(periods.most_common(_TRIED)):
        same = bytes(map(eq, units.words[period:], units.words))  # which units say what stands one period before them
        for run in re.finditer(rb"\x01+", same):
            start, end = run.span()
            if end - start >= period and end - start + period > most and sum(units.weights[start:end]) >= _SPAN:
                most, body, times = end - start + period, (start, start + period), (end - start + period) // period
    return body, times
