"""Several samples of one question: agreement, the majority's answer, pass@k."""

import itertools

import pytest

from producer.analysis.replies import Reply
from producer.analysis.samples import Totals, agreement, ks, majority, pass_at_k, sampled
from tests.conftest import Kotae, StartWorker, make_workbook
from tests.test_run import table
from workers.contract.messages import Outcome


def replies(*answers: str, outcome: Outcome = Outcome.ANSWERED) -> list[Reply]:
    return [Reply("why", answer, outcome) for answer in answers]


@pytest.mark.parametrize(("samples", "right", "k"), [(n, c, k) for n in (1, 4, 6) for c in range(n + 1) for k in range(1, n + 1)])
def test_pass_at_k_is_the_share_of_all_choices_of_k_samples_that_hold_a_right_one(samples: int, right: int, k: int) -> None:
    """Counted out, as the estimator of Chen et al. is defined."""
    choices = list(itertools.combinations(range(samples), k))

    expected = sum(any(one < right for one in choice) for choice in choices) / len(choices)

    assert pass_at_k(samples, right, k) == pytest.approx(expected)


def test_pass_at_k_of_more_samples_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@3 of 2 samples"):
        pass_at_k(2, 1, 3)


def test_pass_at_k_stays_exact_for_a_thousand_samples() -> None:
    assert pass_at_k(1024, 1, 512) == pytest.approx(0.5)
    assert pass_at_k(1024, 0, 1024) == 0.0
    assert ks(1024)[-1] == 1024
    assert ks(6) == [1, 2, 4, 6]


def test_the_majority_votes_on_what_is_said_not_on_how() -> None:
    found = majority(["答えは12個です。", "13", "12", "12 個"], gold="12")

    assert found is not None
    assert (found.answer, found.votes, found.samples) == ("答えは12個です。", 3, 4)


def test_without_gold_final_answers_are_compared_or_else_the_words() -> None:
    assert agreement(["答えは12個です。", "12", "6×2なので、答え：12", "The answer is 12 apples."]) == 1
    assert agreement(["B", "The answer is B.", "正解はBです。", "C"]) == 0.5
    assert agreement(["東京", "東京。", " 東京 ", "京都"]) == pytest.approx(3 * 2 / (4 * 3))
    assert agreement(["only one"]) is None
    assert majority([]) is None


def test_of_equal_votes_the_first_answer_wins() -> None:
    found = majority(["b", "a", "a", "b"])

    assert found is not None
    assert found.answer == "b"


def test_malformed_and_truncated_samples_are_never_right_but_count() -> None:
    """Or a model that seldom finishes would look good: pass@k is over all that was sampled."""
    one = sampled([*replies("42", "41"), *replies("42", outcome=Outcome.TRUNCATED), *replies("42", outcome=Outcome.MALFORMED)], "42")

    assert (one.samples, one.answered, one.right, one.majority_right) == (4, 2, 1, True)


def test_totals_say_over_how_many_questions() -> None:
    totals = Totals()
    totals.add(sampled(replies("42", "42"), "42"))
    totals.add(sampled(replies("41", "42"), "40"))
    totals.add(sampled(replies("x", "y")))
    totals.add(sampled(replies("alone"), "alone"))

    assert totals.told() == {
        "questions": 3,
        "agreement": {"mean": pytest.approx(1 / 3, abs=1e-4), "questions": 3},
        "majority right": {"right": 1, "questions": 2},
        "pass@1": {"mean": 0.5, "questions": 2},
        "pass@2": {"mean": 0.5, "questions": 2},
    }


def test_samples_travel_together_and_each_has_its_columns(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """One request of the engine for all samples of a row; what they say stands side by side in the workbook."""
    make_workbook(kotae.folder / "q.xlsx", ["alpha", "beta"])
    ledger = kotae.folder / "ledger"
    start_worker("--ledger", str(ledger))

    told = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--samples", "3")

    rows = table(kotae.folder / "out.xlsx")
    starts = [line for line in ledger.read_text().splitlines() if line.startswith("start")]
    assert [[row[name] for name in ("answer", "answer_2", "answer_3")] for row in rows] == [["alpha"] * 3, ["beta"] * 3]
    assert (len(starts), told["prompt_tokens"], told["output_tokens"]) == (2, 2, 6)
    refused = kotae("pairs", "last", "-o", "pairs.jsonl")
    assert (refused.code, "2 identical" in refused.err) == (2, True), "an engine that says the same thrice gives no pair"
