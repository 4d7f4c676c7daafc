"""What a reply mentions without claiming it is not its answer; what it claims is, whatever else it mentions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.analysis.gold import is_right

#: Ways of mentioning a number without giving it as the answer; {n} stands for it, {m} for another one.
NO_CLAIMS = [
    "The answer is not {n}.",
    "{n} is not correct.",
    "It can't be {n}.",
    "I would say {m} rather than {n}.",
    "It is {m}, not {n}.",
    "答えは{n}ではありません。",
    "{n}ではなく{m}です。",
    "{n}は間違いです。",
    "{n}とは限りません。",
    "{n} or {m}",
    "The answer is either {m} or {n}.",
    "between {n} and {m}",
    "{m} to {n}",
    "{m}-{n}",
    "{m}〜{n}個です。",
    "答えは{m}から{n}の間です。",
    "{n}または{m}です。",
    "{m}か{n}です。",
    "The solutions are x = {m} and x = {n}.",
    "x={m}, y={n}",
    "Possible answers: {m}, {n}",
    "\\boxed{{({m}, {n})}}",
    "\\boxed{{{m} \\text{{ or }} {n}}}",
    "more than {n}",
    "At least {n} people.",
    "{n} or more",
    "x > {n}",
    "\\boxed{{x \\geq {n}}}",
    "{n}以上です。",
    "{n}人未満",
    "{n}個より多い",
    "少なくとも{n}人",
    "{n}x",
    "√{n}",
    "\\sqrt{{{n}}}",
    "{n}π cm",
    "\\boxed{{{n}\\pi}}",
    "\\boxed{{\\pm {n}}}",
    "\\boxed{{{n}i}}",
    "The answer is {m} × {n}.",
    "{m} divided by {n}",
    "twice {n}",
    "{n}の{m}乗",
    "{m}時間{n}分",
    "{m} hours {n} minutes",
    "{m} ft {n} in",
    "{m}.{n}.{m}",
    "{n} and a half",
    "{n} is the wrong answer.",
    "{n}とは異なります。",
    "{n}以外です。",
    "\\boxed{{(-\\infty, {n})}}",
    "\\boxed{{[{n}, \\infty)}}",
    "\\boxed{{x \\ne {n}}}",
    "\\boxed{{\\frac{{{n}}}{{x}}}}",
    "与えられた{n}個の情報では解けません。",
    "{n}は条件を満たさない。",
    "{n}では足りない。",
    "{n} does not satisfy the equation.",
    "If you forget to carry, you get {n}, which is wrong.",
    "We reject {n}.",
    "{n}では割り切れません。",
    "{n} ≠ x",
    "I don't know. See equation {n}.",
    "申し訳ありませんが、{n}という情報だけでは答えられません。",
    "ステップ{n}",
]
#: Ways of giving a number as the answer although others are mentioned.
CLAIMS = [
    "The answer is {n}, not {m}.",
    "{n} rather than {m}.",
    "It is not {m}. It is {n}.",
    "{m}ではなく{n}です。",
    "{n}であって{m}ではない。",
    "They need more than {m}, so {n}.",
    "From {m} to {m} there are {n} of them.",
    "{m}以上なので、{n}です。",
    "12π ≈ {n}",
    "The answer is {m} × 1 = {n}.",
    "# 答え\n{n}個\n\n# 解説\n{m}と{m}を足します。",
    "{n} apples ({m} in each of the baskets)",
    "{n}個（1箱に{m}個）です。",
    "Tom is {n} years older than Ann.",
    "So {n} of the {m} are left.",
    "That makes {n} out of {m}.",
    "She pays 3 * 7 = ${n} for {m} glasses.",
    "兄は弟より{n}歳年上です。",
    "{n}ではないでしょうか。",
    "-> {n}",
    "{m}から1を引くと{n}です。",
    "{m}を4で割ると{n}になります。",
    "正しくは{n}で、{m}ではありません。",
    "<answer>{n}</answer>",
    "\\boxed{{x = {n}}}",
    "In the end she has {n} left!",
]
#: Words with kanji or English numerals in them that count nothing, and the number that is not meant.
WORDS = [
    ("1", "一番大切なのは努力です。"),
    ("1", "統一が必要です。"),
    ("1", "二つの理由がある。第一に、費用。"),
    ("3", "三角形です。"),
    ("3", "三位一体です。"),
    ("6", "六本木です。"),
    ("10", "それで十分です。"),
    ("800", "八百屋です。"),
    ("1000", "千葉県です。"),
    ("10000", "万里の長城です。"),
    ("1", "No one knows."),
    ("1", "One of them is right."),
    ("19", "COVID-19"),
    ("12", "5月12日です。"),
    ("12", "The shop opened on May 12."),
]
MEANT = [
    ("3000", "約三千人です。"),
    ("200", "二百年前のことです。"),
    ("-3", "マイナス三度です。"),
    ("1", "一つだけです。"),
    ("1", "One apple."),
    ("1867", "1867年3月30日です。"),
    ("1867", "It was bought on March 30, 1867."),
    ("1500000", "$1.5M"),
    ("1234", "1 234"),
    ("12345.67", "12 345,67 €"),
    ("1000000", "1_000_000"),
    ("-1/2", "−½"),
    ("12", "12㎡"),
    ("3.5", "It is $\\frac{7}{2}$ or $3.5$."),
]
NO_CHOICES = [
    ("B", "A or B"),
    ("B", "Both A and B"),
    ("B", "Neither A nor B"),
    ("D", "None of A, B, C, or D is correct."),
    ("C", "A < B < C"),
    ("C", "C or perhaps D."),
    ("C", "The wrong option is C."),
    ("C", "Cを選んではいけません。"),
    ("C", "ビタミンCです。"),
    ("B", "AまたはB"),
    ("B", "AでもBでもない"),
    ("B", "The answer is not B."),
    ("B", "B is wrong."),
    ("B", "Anything but B."),
    ("B", "Bではありません。"),
    ("B", "Bは誤りです。"),
    ("B", "A、Bは誤りです。"),
    ("D", "Options:\nA) 1\nB) 2\nC) 3\nD) 4"),
    ("C", "All of the options A, B and C"),
    ("C", "Oranges are rich in vitamin C."),
    ("C", "C言語です。"),
    ("C", "C++"),
    ("D", "D-Day"),
    ("D", "D is ruled out."),
    ("D", "D以外です。"),
    ("A", "Aさんです。"),
    ("イ", "イではない"),
    ("ウ", "アかウ"),
    ("③", "①か③"),
]
CHOICES = [
    ("B", "A、C、Dは誤り。よってB。"),
    ("B", "Bです。Aは小さすぎるため誤りです。"),
    ("B", "B\n\nA is too small."),
    ("B", "Only B is true."),
    ("D", "<D>"),
    ("B", "AよりBが適切です。"),
    ("B", "AとCは不適切であり、Bが適切である。"),
    ("B", "A is tempting but wrong; B is right."),
]
NO_WORDS = [
    ("No", "No idea."),
    ("no", "No problem! Yes."),
    ("true", "True or false?"),
    ("yes", "Yes/No"),
    ("正しい", "正しいとは言えません。"),
    ("12π", "12"),
    ("2x", "2"),
]

whole = st.integers(2, 99)


@pytest.mark.parametrize("frame", NO_CLAIMS)
@given(number=whole, other=whole)
@settings(max_examples=20)
def test_a_number_that_is_only_mentioned_is_not_the_answer(frame: str, number: int, other: int) -> None:
    """A reply that denies the right number, bounds it or offers it among others must not be counted as right."""
    if number != other:
        assert is_right(frame.format(n=number, m=other), str(number)) is False


@pytest.mark.parametrize("frame", CLAIMS)
@given(number=whole, other=whole)
@settings(max_examples=20)
def test_a_number_that_is_claimed_is_the_answer(frame: str, number: int, other: int) -> None:
    """And the others are not."""
    if number not in (other, 12, 1):
        assert is_right(frame.format(n=number, m=other), str(number)) is True
        assert is_right(frame.format(n=number, m=other), str(other)) is False


@pytest.mark.parametrize(("gold", "reply"), [*WORDS, *NO_CHOICES, *NO_WORDS])
def test_a_numeral_a_label_or_a_word_that_is_only_mentioned_is_not_the_answer(gold: str, reply: str) -> None:
    assert is_right(reply, gold) is False


@pytest.mark.parametrize(("gold", "reply"), [*MEANT, *CHOICES])
def test_a_numeral_or_a_label_that_is_meant_is_the_answer(gold: str, reply: str) -> None:
    assert is_right(reply, gold) is True
