"""What names a run and what seeds a row. A name that moves pays for answers twice; one that does not mixes two runs."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.options import AskOptions
from producer.prepare import make_plan
from producer.questions import Questions, is_asked, render, row_seeds, run_id_of
from tests.workbooks import manifest, save_workbook
from workers.contract.messages import BlankLines, ChatMessage, Outcome, ReplyFormat, Sampling

ASKED = ["one", "two", "two"]

texts = st.text(st.characters(exclude_categories=[]), max_size=8)
few = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=8)


def run_id(
    questions: Sequence[str] = ASKED, prompt: str = "Answer.", served_name: str = "m", adapter: str | None = None, **sampling: Any
) -> str:
    return run_id_of(questions, prompt, Sampling(**sampling), served_name, adapter)


def seeds(questions: Sequence[str], prompt: str = "Answer.", run_seed: int = 0) -> list[int]:
    return list(row_seeds(questions, prompt, Sampling(seed=run_seed)))


CHANGES: dict[str, dict[str, Any]] = {
    "another prompt": {"prompt": "Answer!"},
    "no prompt": {"prompt": ""},
    "a line break in the prompt": {"prompt": "Answer.\n"},
    "another served name": {"served_name": "M"},
    "an adapter": {"adapter": "lora"},
    "another first question": {"questions": ["One", "two", "two"]},
    "another last question": {"questions": ["one", "two", "two "]},
    "another order": {"questions": ["two", "one", "two"]},
    "a question more": {"questions": [*ASKED, "four"]},
    "a question less": {"questions": ASKED[:-1]},
    "an empty row between": {"questions": ["one", "", "two", "two"]},
    "an empty row at the end": {"questions": [*ASKED, ""]},
    "a question in two": {"questions": ["on", "e", "two", "two"]},
    "a seed": {"seed": 1},
    "temperature": {"temperature": 0.6},
    "top_p": {"top_p": 0.9},
    "top_k": {"top_k": 40},
    "min_p": {"min_p": 0.1},
    "max_tokens": {"max_tokens": 2049},
    "min_tokens": {"min_tokens": 1},
    "samples": {"n": 2},
    "stop": {"stop": ("</answer>",)},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "presence_penalty": {"presence_penalty": 0.1},
    "frequency_penalty": {"frequency_penalty": 0.1},
    "ignore_eos": {"ignore_eos": True},
    "an enforced format": {"enforce_format": ReplyFormat.THINK},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_could_change_an_answer_makes_another_run(change: dict[str, Any]) -> None:
    """Answers to different questions must never be mixed in one workbook."""
    assert run_id(**change) != run_id()


def test_every_field_of_sampling_is_tried_above() -> None:
    """A field added later must not be forgotten here."""
    tried = {name for change in CHANGES.values() for name in change}

    assert set(Sampling.model_fields) <= tried


def test_the_name_of_a_run_stays_the_same_from_release_to_release() -> None:
    """A run begun before an upgrade is resumed after it; whoever changes this value gives up every unfinished run."""
    assert run_id(temperature=0.7) == "c2821cdde48b9575"


def test_a_run_has_a_name_that_files_and_keys_can_carry() -> None:
    """It names a file on disk and keys in Redis."""
    assert re.fullmatch("[0-9a-f]{16}", run_id())


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_two_lists_of_questions_share_a_run_only_if_they_are_equal(one: list[str], other: list[str]) -> None:
    """No text of a question can make it look like two, whatever brackets and line breaks it holds."""
    assert (run_id(one) == run_id(other)) == (one == other)


def plan_run_id(path: Path, rows: list[list[Any]], sheet: str = "S", **options: Any) -> str:
    save_workbook(path, {sheet: rows})
    return make_plan(path, AskOptions(**{"system_prompt": "Answer.", **options})).run_id("m", None)


ROWS: list[list[Any]] = [["NO", "question"], [1, "one"], [2, "two"]]


@pytest.mark.parametrize(
    "options",
    [
        {"reply_format": ReplyFormat.THINK},
        {"reply_format": ReplyFormat.PLAIN},
        {"blank_lines": BlankLines.KEEP},
        {"limit": 1},
        {"overwrite": True},
        {"row_timeout": "5m"},
        {"fresh": True},
        {"window": 7},
        {"sheet": "S"},
        {"question_column": "ＱＵＥＳＴＩＯＮ"},
    ],
    ids=str,
)
def test_options_that_change_no_answer_stay_in_the_run(tmp_path: Path, options: dict[str, Any]) -> None:
    """Another reading of the replies, or --limit 1 first to see whether it works, must not ask anything twice."""
    assert plan_run_id(tmp_path / "in.xlsx", ROWS, **options) == plan_run_id(tmp_path / "in.xlsx", ROWS)


def test_everything_else_in_the_workbook_stays_in_the_run(tmp_path: Path) -> None:
    """A note in another column, a renamed sheet or file: the questions are the same, and so are the answers."""
    edited: list[list[Any]] = [["質問", "memo"], ["one", "good"], ["two", "bad"]]

    assert plan_run_id(tmp_path / "in.xlsx", ROWS) == plan_run_id(tmp_path / "renamed.xlsx", edited, sheet="Renamed")


def test_the_seeds_of_rows_stay_the_same_from_release_to_release() -> None:
    """A run resumed after an upgrade draws its remaining rows as it would have before."""
    assert seeds(ASKED) == [93226213713893, 83611927274497, 95198936694595]


@given(few, st.sampled_from(["a", "b", "c"]))
def test_a_seed_does_not_move_when_other_rows_do(questions: list[str], question: str) -> None:
    """Correct a typo in row 3 of 1,000, and the other 999 answers are the same as before."""
    mine = [seed for seed, text in zip(seeds(questions), questions, strict=True) if text == question]

    assert mine == seeds([question] * questions.count(question))


@given(few)
def test_no_two_rows_share_a_seed(questions: list[str]) -> None:
    """A question that stands there five times is asked five times, to see how much the answers differ."""
    assert len(set(seeds(questions))) == len(questions)


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_another_run_seed_gives_other_row_seeds(one: int, other: int) -> None:
    """--seed 2 is how a person asks for another draw."""
    assert (seeds(ASKED, run_seed=one) == seeds(ASKED, run_seed=other)) == (one == other)


def test_another_prompt_gives_other_seeds() -> None:
    """The seed belongs to the whole of what is asked."""
    assert not set(seeds(ASKED)) & set(seeds(ASKED, prompt="Reply."))


@given(st.lists(texts, max_size=5), st.integers(0, 2**63 - 1))
def test_a_seed_is_one_that_every_engine_takes(questions: list[str], run_seed: int) -> None:
    """Torch refuses seeds of more than 63 bits, and JSON readers round those of more than 53."""
    assert all(0 <= seed < 2**53 for seed in seeds(questions, run_seed=run_seed))


@given(texts, st.text(min_size=1))
def test_nothing_is_added_to_a_question_or_taken_from_it(question: str, prompt: str) -> None:
    """The model was tuned on these very bytes, line breaks at the ends included."""
    assert render(question, prompt) == (ChatMessage(role="system", content=prompt), ChatMessage(role="user", content=question))
    assert render(question, "") == (ChatMessage(role="user", content=question),)


@pytest.mark.parametrize(("text", "asked"), [("why?", True), (" . ", True), ("0", True), ("", False), (" \n\t", False), ("　", False)])
def test_a_row_without_a_question_is_not_asked(text: str, asked: bool) -> None:
    """A model answers anything, an empty question too; nobody wants to pay for that or count it in the yield."""
    assert is_asked(text) is asked


def test_a_question_travels_with_everything_a_worker_needs() -> None:
    """Workers know nothing of runs: what is not in the message is not done."""
    run = manifest(
        rows=3,
        sampling=Sampling(seed=5, temperature=0.9, n=2),
        adapter="lora",
        reply_format=ReplyFormat.THINK,
        blank_lines=BlankLines.KEEP,
        row_timeout=60.0,
    )

    question = Questions(ASKED, run).of(2, generation=4)

    assert (question.run_id, question.row, question.generation) == (run.run_id, 2, 4)
    assert question.messages == render("two", run.system_prompt)
    assert question.sampling == run.sampling.model_copy(update={"seed": seeds(ASKED, run.system_prompt, 5)[2]})
    assert (question.adapter, question.reply_format, question.blank_lines, question.row_timeout) == ("lora", "think", "keep", 60.0)


def test_a_row_asked_anew_keeps_its_seed() -> None:
    """`retry` repeats a row that failed; it is not another draw."""
    questions = Questions(ASKED, manifest(rows=3))

    assert questions.of(1, generation=0).sampling == questions.of(1, generation=1).sampling


def test_empty_rows_are_answered_at_once_up_to_the_limit() -> None:
    """They have their place in the output and cost no worker anything."""
    run = manifest(rows=5, limit=4)

    skipped = list(Questions(["one", "", "three", " ", ""], run).skipped())

    assert [(answer.row, answer.outcome, answer.error) for answer in skipped] == [
        (1, Outcome.SKIPPED, "the question is empty"),
        (3, Outcome.SKIPPED, "the question is empty"),
    ]
