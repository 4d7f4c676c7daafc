"""Where answers go. A column that somebody filled by hand is worth more than one of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.workbook.columns import OutputColumn, answer_fields, normalised, place_columns

FIELDS = ["answer", "reasoning", "outcome", "finish_reason", "prompt_tokens", "output_tokens", "error"]


def test_one_sample_has_seven_columns() -> None:
    """People's formulas and scripts name these columns; their names and order are a promise."""
    assert answer_fields(1) == FIELDS


def test_further_samples_follow_at_the_end() -> None:
    """The first seven columns stay where they are however many samples are drawn."""
    assert answer_fields(3) == [*FIELDS, "answer_2", "reasoning_2", "answer_3", "reasoning_3"]


def test_new_columns_follow_the_sources_own() -> None:
    """A source without any of our columns gets them all, under their plain names."""
    columns = place_columns(["answer", "reasoning"], ["NO", "question"], [True, True], "phi-4", overwrite=False)

    assert columns == [OutputColumn("answer", "answer", None), OutputColumn("reasoning", "reasoning", None)]


def test_an_empty_column_of_that_name_is_filled_in_place() -> None:
    """Whoever prepared a column "answer" wants the answers in it, under the header as they wrote it."""
    columns = place_columns(["answer"], ["Ａｎｓｗｅｒ ", "question"], [False, True], "phi-4", overwrite=False)

    assert columns == [OutputColumn("answer", "Ａｎｓｗｅｒ ", 0)]


def test_a_filled_column_is_kept_and_ours_gets_another_name() -> None:
    """The reference's workbooks already hold the stronger model's answers; losing them would be unforgivable."""
    columns = place_columns(["answer"], ["question", "answer"], [True, True], "phi-4", overwrite=False)

    assert columns == [OutputColumn("answer", "answer (phi-4)", None)]


def test_overwriting_fills_a_filled_column_in_place() -> None:
    """--overwrite means what it says."""
    columns = place_columns(["answer"], ["question", "answer"], [True, True], "phi-4", overwrite=True)

    assert columns == [OutputColumn("answer", "answer", 1)]


def test_only_the_columns_that_collide_are_renamed() -> None:
    """A filled "answer" says nothing about an empty "reasoning"."""
    columns = place_columns(
        ["answer", "reasoning", "outcome"], ["answer", "reasoning", "question"], [True, False, True], "phi-4", overwrite=False
    )

    assert columns == [
        OutputColumn("answer", "answer (phi-4)", None),
        OutputColumn("reasoning", "reasoning", 1),
        OutputColumn("outcome", "outcome", None),
    ]


@pytest.mark.parametrize(
    ("taken", "header"),
    [
        (["answer"], "answer (phi-4)"),
        (["answer", "answer (phi-4)"], "answer (phi-4) 2"),
        (["answer", "ANSWER （ＰＨＩ－４）"], "answer (phi-4) 2"),
        (["answer", "answer (phi-4)", "answer (phi-4) 2"], "answer (phi-4) 3"),
        (["answer", "answer (phi-4) 2"], "answer (phi-4)"),
    ],
)
def test_an_output_can_be_a_source_again_and_again(taken: list[str], header: str) -> None:
    """Feeding yesterday's output back in adds a column each time and loses none."""
    columns = place_columns(["answer"], taken, [True] * len(taken), "phi-4", overwrite=False)

    assert columns == [OutputColumn("answer", header, None)]


def test_an_empty_column_of_our_second_name_is_filled() -> None:
    """The rule for "answer" holds for "answer (phi-4)" just the same."""
    columns = place_columns(["answer"], ["answer", "Answer (PHI-4)"], [True, False], "phi-4", overwrite=False)

    assert columns == [OutputColumn("answer", "Answer (PHI-4)", 1)]


headers = st.lists(
    st.tuples(st.sampled_from(["answer", "Answer", "answer (m)", "answer (m) 2", "reasoning", "question", ""]), st.booleans())
)


@given(headers)
def test_nothing_filled_is_ever_touched_and_no_two_columns_get_in_each_others_way(source: list[tuple[str, bool]]) -> None:
    """Whatever the source looks like: no cell of a person's is replaced unasked, no answer hides another."""
    names, filled = [name for name, _ in source], [full for _, full in source]

    columns = place_columns(["answer", "reasoning"], names, filled, "m", overwrite=False)

    fills = [column.fills for column in columns if column.fills is not None]
    added = [normalised(column.header) for column in columns if column.fills is None]
    assert not any(filled[place] for place in fills)
    assert len(set(fills)) == len(fills)
    assert len(set(added)) == len(added)
    assert not set(added) & {normalised(name) for name in names}
