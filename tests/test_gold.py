"""Answers against gold: ways of giving a final number, a choice or words, and what must not be taken for them."""

import pytest

from producer.analysis.gold import Match, is_right, kind_of

#: Gold, and a reply that gives it.
RIGHT_NUMBERS = [
    ("42", "42"),
    ("42", "42."),
    ("42", "４２"),
    ("42", "42.0"),
    ("42", " 42 個 "),
    ("42", "The answer is 42."),
    ("42", "The answer is: 42"),
    ("42", "the final answer is $42$. I hope it is correct."),
    ("42", "So the answer is 6 × 7 = 42."),
    ("42", "The answer is x = 42"),
    ("42", "Answer: 42"),
    ("42", "**Answer:** 42"),
    ("42", "### Final Answer\n\n42 apples"),
    ("42", "ANSWER: 42 apples (6 baskets of 7)"),
    ("42", "The answer is 42 because there are 6 baskets of 7."),
    ("42", "The answer to question 3 is 42."),
    ("42", "The answer is not 41 but 42."),
    ("42", "The answer is 41. Wait, I forgot one. The answer is 42."),
    ("42", "42 is the answer."),
    ("42", "6 * 7 = 42\n#### 42"),
    ("42", "Six baskets of 7 make $\\boxed{42}$ apples in 6 baskets."),
    ("42", "\\boxed{41} was wrong, \\boxed{42\\text{ apples}} it is"),
    ("42", "\\boxed{x = 42}"),
    ("42", "\\fbox{42}"),
    ("42", "There are 6 baskets of 7 apples, so 42"),
    ("42", "There are **42 apples** in all 6 baskets."),
    ("42", "1. Count the baskets: 6.\n2. Multiply by 7.\n3. That makes 42"),
    ("42", "The answer is forty-two."),
    ("42", "It is about 42"),
    ("42", "The answer is approximately 42 km."),
    ("42", "答えは42です。"),
    ("42", "答えは、４２個です。"),
    ("42", "答えは「42」です。"),
    ("42", "答えは **42** です"),
    ("42", "答え：42"),
    ("42", "答え: 42円"),
    ("42", "【答え】42"),
    ("42", "【答え】\n42個"),
    ("42", "答：42"),
    ("42", "正解は42である。"),
    ("42", "最終的な答えは約42kmになります。"),
    ("42", "したがって、答えは42となります。なぜなら6×7だからです。"),
    ("42", "答えは6×7で42です。"),
    ("42", "答えは、50から8を引いて、42です。"),
    ("42", "答えは42（6×7）です。"),
    ("42", "答えは41ではなく42です。"),
    ("42", "42が答えです。"),
    ("42", "42個（籠が6つ）"),
    ("42", "答えは…42です"),
    ("42", "6つの籠に7個ずつあるので、合計42個"),
    ("42", "答えは四十二です。"),
    ("42", "結論として、42個必要です。"),
    ("42", "結果は42だと考えられます。"),
    ("42", "求める値は42です。"),
    ("1234", "1,234"),
    ("1234", "１，２３４円"),
    ("1,234", "答えは1234です"),
    ("1234567", "1,234,567"),
    ("1234567", "1 234 567"),
    ("1234567", "1.234.567"),
    ("1234567", "1'234'567"),
    ("1234567", "The answer is $1{,}234{,}567$."),
    ("1234567", "12,34,567"),
    ("1234.5", "$1,234.50"),
    ("1234.5", "1.234,50 €"),
    ("3.14", "3,14"),
    ("3.14", "3.14159"),
    ("0.125", "0,125"),
    ("0.5", ".5"),
    ("30000", "3万"),
    ("30000", "約３万円です。"),
    ("３万", "30,000円"),
    ("35000", "3万5千"),
    ("35000", "3万5000円"),
    ("12000", "答えは1万2千人です。"),
    ("125000", "12.5万"),
    ("120000000", "1億2,000万円"),
    ("1億2000万", "120000000"),
    ("2000000000000", "2兆円"),
    ("5000", "5千円"),
    ("2024", "二千二十四"),
    ("2024", "二〇二四年"),
    ("1200000", "The answer is 1.2 million."),
    ("1200000", "1.2 million dollars"),
    ("5000", "5k"),
    ("-5", "-5"),
    ("-5", "−5"),
    ("-5", "－５"),
    ("-5", "マイナス5"),
    ("-5", "negative 5"),
    ("-5", "minus five"),
    ("-5", "The answer is -$5."),
    ("-5", "答えは-5℃です。"),
    ("-1200", "▲1,200"),
    ("5", "10 - 5 = 5"),
    ("25%", "25%"),
    ("25%", "２５％"),
    ("25%", "25 percent"),
    ("25%", "25パーセント"),
    ("25%", "0.25"),
    ("25%", "25"),
    ("25", "25%"),
    ("0.25", "25%"),
    ("25%", "2割5分"),
    ("30%", "答えは3割です。"),
    ("3/4", "3/4"),
    ("3/4", "0.75"),
    ("0.75", "3/4"),
    ("3/4", "4分の3"),
    ("3/4", "\\boxed{\\frac{3}{4}}"),
    ("3/4", "$\\dfrac34$"),
    ("\\frac{3}{4}", "3/4"),
    ("-3/4", "-\\frac{3}{4}"),
    ("1/2", "½"),
    ("3/2", "1½"),
    ("3/2", "1 1/2"),
    ("3/2", "1と1/2"),
    ("7/3", "2と3分の1"),
    ("0.33", "1/3"),
    ("2/3", "66.67%"),
    ("2/3", "約0.6667"),
    ("2000", "2,000円也"),
    ("10000", "一万円"),
    ("3600", "3600秒（＝1時間）です"),
    ("602000", "6.02 × 10^5"),
    ("602000", "6.02×10⁵"),
    ("602000", "6.02e5"),
    ("602000", "$6.02 \\times 10^{5}$"),
    ("1024", "2^{10}"),
    ("9", "面積は9 m²"),
    ("90", "90°"),
    ("90", "$90^\\circ$"),
    ("72", "#### 72"),
    ("They sold 48/2 = 24 in May, 72 in all.\n#### 72", "The answer is 72."),
    ("100", "USD 100"),
    ("100", "¥100"),
    ("x = 5", "5"),
]
WRONG_NUMBERS = [
    ("42", ""),
    ("42", "ANSWER not found"),
    ("42", "I do not know."),
    ("42", "43"),
    ("42", "-42"),
    ("42", "4.2"),
    ("42", "420"),
    ("42", "The answer is 41, not 42."),
    ("42", "42 was my first guess. The answer is 41."),
    ("42", "答えは42ではなく41です。"),
    ("42", "\\boxed{41} and not 42"),
    ("42", "42万"),
    ("42", "0.42%"),
    ("2", "\\boxed{2\\sqrt{3}}"),
    ("2", "\\boxed{2\\pi}"),
    ("2", "H2O"),
    ("0.25", "25"),
    ("1234", "1.234"),
    ("3.14", "3.1"),
    ("10000", "10001"),
    ("10000.5", "10001"),
    ("2/3", "0.66"),
    ("3/4", "4/3"),
    ("12", "12:30"),
    ("-5", "10-5"),
    ("1/3", "3"),
]
RIGHT_CHOICES = [
    ("B", "B"),
    ("B", "b"),
    ("B", "Ｂ"),
    ("B", "(B)"),
    ("B", "B."),
    ("B", "B) Paris"),
    ("B", "B: Paris"),
    ("B", "**B**"),
    ("B", "B、パリ"),
    ("(B)", "B"),
    ("(b) Paris", "B"),
    ("B. Paris", "(B)"),
    ("B", "The answer is B."),
    ("B", "The answer is (B)."),
    ("B", "The answer is b."),
    ("B", "the correct answer is option B"),
    ("B", "The correct answer is **B) Paris**, as A is in Germany."),
    ("B", "Answer: B"),
    ("B", "Answer: $B$"),
    ("B", "ANSWER: (b)"),
    ("B", "\\boxed{B}"),
    ("B", "\\boxed{\\text{(B)}}"),
    ("B", "I would choose option B here"),
    ("B", "B is correct."),
    ("B", "A is too large and C too small. (B)"),
    ("B", "A is too large, so B"),
    ("B", "The answer is not A but B."),
    ("B", "A red light means stop, so B"),
    ("A", "The answer is A because it is red."),
    ("B", "答えはBです。"),
    ("B", "答えは（Ｂ）です。"),
    ("B", "正解はBの「パリ」です。"),
    ("B", "正解：B"),
    ("B", "【解答】B"),
    ("B", "選択肢Bが正しいです。"),
    ("B", "Bが正解です。Aは誤りです。"),
    ("B", "Aは大きすぎます。したがって、Bが最も適切です。"),
    ("B", "答えはAではなくBです。"),
    ("B", "答えはBで、Aは誤りです。"),
    ("B", "適切なものはBです。"),
    ("2", "答えは2です。"),
    ("2", "正解は(2)です。"),
    ("②", "答えは②です。"),
    ("②", "2"),
    ("2", "正解は②番です。"),
    ("ア", "答えはアです。"),
    ("ウ", "ウ"),
    ("ウ", "正解は「ウ」。アとイは誤り。"),
    ("ア", "（ア）"),
    ("イ", "アは誤りで、答えはイです。"),
    ("A, C", "The answer is A and C."),
    ("A, C", "答えはAとCです。"),
]
WRONG_CHOICES = [
    ("B", "A"),
    ("B", "The answer is A, not B."),
    ("B", "The answer is A and B."),
    ("B", "答えはAです。Bは誤りです。"),
    ("A", "A cat sat there."),
    ("A", "I do not know."),
    ("I", "I think it is C"),
    ("B", "ANSWER not found"),
    ("ウ", "サウナ"),
    ("A, C", "A"),
]
RIGHT_WORDS = [
    ("東京", "東京"),
    ("東京", "東京。"),
    ("東京", "「東京」"),
    ("東京", "答えは東京です。"),
    ("東京", "答え：東京"),
    ("東京", "日本の首都を考えます。\n\n**東京**"),
    ("東京", "東京です"),
    ("東京", "日本の首都は東京です。"),
    ("Mount Fuji", "It is Mount Fuji."),
    ("Paris", "The answer is Paris."),
    ("Paris", "paris"),
    ("the Amazon", "Amazon"),
    ("Paris", "\\boxed{\\text{Paris}}"),
    ("10:30", "The answer is 10:30."),
    ("Apollo 11", "apollo 11"),
    ("はい", "はい、そのとおりです。"),
    ("no", "No, it is not."),
    ("x^2+1", "$\\boxed{x^2 + 1}$"),
]
WRONG_WORDS = [
    ("東京", "京都"),
    ("東京", "答えは京都です。東京ではありません。"),
    ("東京", "東京都庁"),
    ("東京", "日本の首都は東京ではありません。"),
    ("Paris", "It is not Paris."),
    ("Paris", "London"),
    ("Paris", ""),
    ("no", "Nobody knows."),
    ("3.5 x", "35 x"),
    ("Apollo 11", "11"),
]


@pytest.mark.parametrize(("gold", "reply"), RIGHT_NUMBERS)
def test_the_right_number_is_seen_however_it_is_given(gold: str, reply: str) -> None:
    assert is_right(reply, gold, Match.NUMERIC) is True
    assert is_right(reply, gold) is True


@pytest.mark.parametrize(("gold", "reply"), RIGHT_CHOICES)
def test_the_right_choice_is_seen_however_it_is_given(gold: str, reply: str) -> None:
    assert is_right(reply, gold, Match.CHOICE) is True


@pytest.mark.parametrize(("gold", "reply"), RIGHT_WORDS)
def test_the_right_words_are_seen_however_they_are_given(gold: str, reply: str) -> None:
    assert kind_of(gold) is Match.EXACT
    assert is_right(reply, gold) is True


@pytest.mark.parametrize(("gold", "reply"), WRONG_NUMBERS)
def test_another_number_is_wrong(gold: str, reply: str) -> None:
    assert is_right(reply, gold, Match.NUMERIC) is False


@pytest.mark.parametrize(("gold", "reply"), WRONG_CHOICES)
def test_another_choice_is_wrong(gold: str, reply: str) -> None:
    assert is_right(reply, gold, Match.CHOICE) is False


@pytest.mark.parametrize(("gold", "reply"), WRONG_WORDS)
def test_other_words_are_wrong(gold: str, reply: str) -> None:
    assert is_right(reply, gold) is False


def test_without_gold_nothing_is_right_or_wrong() -> None:
    assert is_right("42", "") is None
    assert is_right("42", "  ") is None
    assert is_right("42", "Paris", Match.NUMERIC) is None
    assert is_right("B", "Paris", Match.CHOICE) is None


@pytest.mark.parametrize(
    "reply", ["9" * 5000, "1" + "," * 5000, "2^999999", "((" * 5000, "答えは" * 3000, "1/0", "0分の1", "\\boxed{" * 2000, "0^-1"]
)
def test_nothing_that_a_model_says_stops_us(reply: str) -> None:
    """Nor makes us wait."""
    for match in Match:
        assert is_right(reply, "7", match) is False


@pytest.mark.parametrize("said", ["\n", ". \n", "* \n", "(\n", " ", "1 ", "**", "not ", "答えは"], ids=repr)
def test_a_reply_that_never_ends_is_read_in_the_end(said: str) -> None:
    """A model that loops writes tens of thousands of the same; a rule that looks from each of them to the end would take minutes."""
    reply = said * (100_000 // len(said))

    assert [is_right(reply, gold) for gold in ("42", "B", "東京")] == [False, False, False]
