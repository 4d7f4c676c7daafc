"""What travels: frozen values that refuse the unknown."""

import json

import pytest
from kombu.utils.json import dumps
from pydantic import ValidationError

from tests.conftest import question
from workers.contract.messages import Answer, Completion, Outcome, Question, Sampling


def test_a_question_survives_the_trip() -> None:
    """Both halves of the wire format, held together."""
    sent = question("質問", row=17, temperature=0.7, stop=("END",), adapter="mine", row_timeout=5.0)

    assert Question.model_validate(json.loads(json.dumps(sent.to_wire()))) == sent


def test_an_answer_survives_the_trip_through_celerys_own_encoder() -> None:
    """The task returns the value itself, so kombu must know how to write it."""
    completion = Completion(text="t", reasoning="r", answer="a", outcome=Outcome.ANSWERED, finish_reason="stop", output_tokens=3)
    answer = Answer(run_id="r", row=3, outcome=Outcome.ANSWERED, completions=(completion,), prompt_tokens=5)

    assert Answer.model_validate(json.loads(dumps(answer))) == answer


def test_unknown_fields_are_refused() -> None:
    """Two versions that do not understand each other fail loudly instead of dropping what they do not know."""
    wire = question().to_wire() | {"new_field": 1}

    with pytest.raises(ValidationError, match="new_field"):
        Question.model_validate(wire)


def test_a_message_cannot_be_changed() -> None:
    """A value that several threads hold must stay what it is."""
    with pytest.raises(ValidationError, match="frozen"):
        question().row = 3  # type: ignore[misc]


def test_what_people_watch_shows_first_words_and_never_the_whole_text() -> None:
    """Flower, events and logs must not carry thousands of characters, or secrets in their middle."""
    long = "first words " + "x" * 5000
    completion = Completion(text=long, reasoning="", answer=long, outcome=Outcome.ANSWERED, finish_reason="stop", output_tokens=1)
    answer = Answer(run_id="cafe", row=17, outcome=Outcome.ANSWERED, completions=(completion,))

    for shown in (repr(question(long, row=17)), repr(answer)):
        assert "run cafe row 17" in shown
        assert "first words" in shown
        assert len(shown) < 100


@pytest.mark.parametrize(
    "impossible",
    [
        {"temperature": -0.1}, {"temperature": 2.1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -2},
        {"min_p": -0.1}, {"min_p": 1.1}, {"max_tokens": 0}, {"min_tokens": -1}, {"min_tokens": 10, "max_tokens": 9}, {"n": 0},
        {"n": 2, "temperature": 0}, {"seed": -1}, {"stop": ("",)}, {"repetition_penalty": 0}, {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1}, {"temprature": 1},
    ],
)  # fmt: skip
def test_an_impossible_sampling_value_is_refused_before_anything_is_sent(impossible: dict[str, object]) -> None:
    """The ranges are vLLM's; a row must not travel to a GPU to learn that."""
    with pytest.raises(ValidationError):
        Sampling.model_validate(impossible)
