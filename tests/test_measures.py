"""Measures of replies: repetition, reasoning in the answer, language."""

import json
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.analysis.language import language, same_language
from producer.analysis.measures import NO_REPETITION, copied, repetition

#: Words, and characters of a text without spaces, of which no two are alike.
WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("ala", "eru", "ino", "opa", "usti")]
KANJI = [chr(code) for code in range(0x4E00, 0x4E00 + 400)]

unique_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=50, unique=True)
unique_characters = st.lists(st.sampled_from(KANJI), min_size=1, max_size=200, unique=True)
written = st.one_of(unique_words.map(lambda words: (words, " ")), unique_characters.map(lambda characters: (characters, "")))


def joined(units: list[str], between: str) -> str:
    return between.join(units)


@given(written)
def test_a_text_without_repeats_has_none(text: tuple[list[str], str]) -> None:
    """Whatever its length, and with spaces or without."""
    assert repetition(joined(*text)) == NO_REPETITION


@given(st.data(), written)
@settings(max_examples=60)
def test_every_repeat_that_is_inserted_makes_the_share_grow(data: st.DataObject, text: tuple[list[str], str]) -> None:
    """A passage of the text is said again somewhere behind, between the passages that are there."""
    units, between = text
    least = 4 if between else 10
    if len(units) < least:
        return
    start = data.draw(st.integers(0, len(units) - least))
    passage = units[start : data.draw(st.integers(start + least, len(units)))]
    shares = [0.0]

    for times in range(1, 6):
        shares.append(repetition(joined([*units, *passage * times], between)).share)

    assert all(after > before for before, after in pairwise(shares)), shares
    assert shares[-1] == pytest.approx(5 * len(passage) / (len(units) + 5 * len(passage)))


SENTENCES = [
    *(
        "春になると桜が咲き始めます。",
        "図書館で借りた本を返しに行く。",
        "雨が降ったので試合は中止だ。",
        "町の中心に古い時計台がある。",
        "電池が切れて時計が止まった。",
    ),
    *(
        "The ferry leaves at noon. ",
        "Copper conducts heat well. ",
        "Nobody expected such heavy snow. ",
        "Wolves hunt together. ",
        "Light bends. ",
    ),
]


@given(st.lists(st.sampled_from(SENTENCES), min_size=1, unique=True), st.data())
def test_a_sentence_said_again_anywhere_makes_the_share_grow(said: list[str], data: st.DataObject) -> None:
    """Also before and within what has been said again already, and in two languages at once."""
    sentences = list(said)
    shares = [repetition("".join(sentences)).share]

    for _ in range(4):
        sentences.insert(data.draw(st.integers(0, len(sentences))), data.draw(st.sampled_from(said)))
        shares.append(repetition("".join(sentences)).share)

    assert shares[0] == 0
    assert all(after > before for before, after in pairwise(shares)), shares


@given(st.integers(2, 30), st.integers(1, 6))
@settings(max_examples=40)
def test_length_alone_changes_nothing(length: int, times: int) -> None:
    """Texts that each say half of themselves again, in words of their own, say half of themselves again together."""
    texts = [[f"{word}{number}" for word in WORDS[: max(length, 4)]] for number in range(times)]

    together = " ".join(" ".join(words * 2) for words in texts)

    assert repetition(together).share == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "loop", "times"),
    [
        ("So we add them. " * 20, "So we add them", 20),
        ("まず、猫は犬ではありません。" * 15, "まず、猫は犬ではありません", 15),
        ("答えは、" + "です" * 200, "です", 200),
        ("ｶﾞｶﾞｶﾞｶﾞｶﾞｶﾞｶﾞｶﾞｶﾞｶﾞｶﾞｶﾞ", "ガ", 12),
        ("ha" * 300, "ha", 300),
        ("!" * 500, "!", 500),
        ("0." + "3" * 400, "3", 400),
        ("".join(f"{number}. Banana\n" for number in range(1, 40)), "Banana", 39),
        ("One thing and then " + "the cat, " * 50, "the cat", 50),
        ("It is not a contradiction because it is not a fallacy. " * 9, "It is not a contradiction because it is not a fallacy", 9),
    ],
)
def test_a_loop_is_named(text: str, loop: str, times: int) -> None:
    """What is said in a row, and how often, with spaces and without."""
    found = repetition(text)

    assert (found.loop, found.times) == (loop, times)
    assert found.share > 0.8
    assert found.longest > 0.4 * len(text)


def bare(text: str) -> str:
    """Return the letters of a text."""
    return re.sub(r"\W+", "", unicodedata.normalize("NFKC", text))


def test_the_loops_that_the_demo_model_really_falls_into_are_found() -> None:
    """Ten of them, with three replies of the same model that go round in no loop; docs/analysis.md lists them."""
    lines = (Path(__file__).parent / "demo_replies.jsonl").read_text(encoding="utf-8").splitlines()
    replies = [json.loads(line) for line in lines]

    found = [(reply, repetition(reply["text"])) for reply in replies]

    assert [reply["row"] for reply, one in found if one.times >= 3] == [reply["row"] for reply in replies if reply["loops"]]
    assert sum(reply["loops"] for reply in replies) == 10
    for reply, one in found:
        if reply["loops"]:
            assert bare(reply["text"]).count(bare(one.loop)) >= one.times
            assert one.share > 0.6


def test_a_sentence_said_again_counts_even_if_it_is_short() -> None:
    """Shorter than four words or ten characters, but all of a sentence."""
    assert repetition("猫が好きだ。雨が降る朝に出た。猫が好きだ。").span == "猫が好きだ"
    assert repetition("I like tea. It rained in the morning. I like tea.").share == pytest.approx(3 / 11)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "。。。",
        "答えは42です。",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n----------\n",
        "# Title\n" + "=" * 60 + "\nText below it.",
        "東京都庁は新宿区にあり、展望室からは富士山が見える日もある。入場は無料で、夜景も人気を集めている。",
        "The Amazon is home to more species than any other forest on Earth, although a fifth of it is lost already.",
    ],
)
def test_ordinary_texts_have_no_repetition(text: str) -> None:
    """Rules of tables and headings are none either."""
    assert repetition(text) == NO_REPETITION


def test_seq_rep_4_is_the_measure_of_its_paper() -> None:
    """Of eight equal words four of five 4-grams are no new ones."""
    assert repetition("la " * 8).seq_rep_4 == pytest.approx(1 - 1 / 5)


def test_reasoning_that_is_copied_into_the_answer_is_found() -> None:
    """Whole, in part, with other words around it, and not where both merely speak of the same thing."""
    reasoning = "日本の首都について考えます。江戸は東京と改められました。したがって東京が首都です。"

    assert copied(reasoning, reasoning) == 1
    assert copied(reasoning, f"詳しく述べます。{reasoning}以上のとおりです。") == 1
    assert copied(reasoning, "江戸は東京と改められました。") == pytest.approx(13 / 35, abs=0.05)
    assert copied(reasoning, "東京です。") == 0
    assert copied("We add 2 and 3. That makes 5.", "5") == 0
    assert copied("42", "42") == 1
    assert copied("", "") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("日本の首都は東京です。", "ja"),
        ("Pythonのdictを使います。", "ja"),
        ("ﾊﾝｶｸ ﾃﾞｽ", "ja"),
        ("東京", "han"),
        ("这是一个很好的问题，我们应该讨论一下", "zh"),
        ("The capital of Japan is Tokyo.", "latin"),
        ("The dish 寿司 (すし) is eaten with the hands.", "latin"),
        ("Tokyo", "name"),
        ("한국어입니다", "ko"),
        ("Привет, мир", "cyrillic"),
        ("42 + 1 = 43", ""),
        ("", ""),
        ("```python\nfor every_item in range(10): print('this is long')\n```で書けます。", "ja"),
        ("<reasoning>\nこう考えます。\n</reasoning>", "ja"),
    ],
)
def test_languages_are_told_by_their_script(text: str, expected: str) -> None:
    """Code, formulas and tags are in no language."""
    assert language(text) == expected


def test_a_name_or_a_number_is_in_every_language() -> None:
    """An answer of one word says nothing of the language it was given in."""
    assert same_language("ja", "latin") is False
    assert same_language("ja", "ja") is True
    assert same_language("ja", "han") is True
    assert same_language("ja", "name") is None
    assert same_language("latin", "") is None
