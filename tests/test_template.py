"""Prompts over columns: what is written is what is asked, and no text of a template or a cell can do anything but stand there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.template import Template, parse_template
from workers.contract.errors import UserError

texts = st.text(st.characters(exclude_categories=[]), max_size=12)
names = texts.map(lambda text: text.replace("{", "").replace("}", "")).filter(str.strip)
#: A text, and then names with the texts that follow them.
templates = st.tuples(texts, st.lists(st.tuples(names, texts), min_size=1, max_size=4))
braces = st.text(st.sampled_from("{}ab :!.[]"), max_size=14)


def written(text: str) -> str:
    """Return a text as a template must say it."""
    return text.replace("{", "{{").replace("}", "}}")


@given(templates)
def test_whatever_is_written_is_read_back(template: tuple[str, list[tuple[str, str]]]) -> None:
    """Any text can be said, whatever it holds, and any name that holds no brace."""
    first, rest = template

    parsed = parse_template(written(first) + "".join(f"{{{name}}}{written(text)}" for name, text in rest))

    assert parsed == Template((first, *(text for _, text in rest)), tuple(name for name, _ in rest))


@given(templates, st.data())
def test_cells_stand_where_their_names_stood(template: tuple[str, list[tuple[str, str]]], data: st.DataObject) -> None:
    """Braces in a cell are text: nothing that was put in is read again."""
    first, rest = template
    cells = data.draw(st.lists(texts | braces, min_size=len(rest), max_size=len(rest)))

    filled = Template((first, *(text for _, text in rest)), tuple(name for name, _ in rest)).fill(cells)

    assert filled == first + "".join(cell + text for cell, (_, text) in zip(cells, rest, strict=True))


@given(braces)
def test_no_text_is_read_as_anything_else(text: str) -> None:
    """What is not refused can be written back from what was read: nothing passes that Python's own formatting would give a meaning to."""
    try:
        parsed = parse_template(text)
    except UserError:
        return

    rest = zip(parsed.names, parsed.texts[1:], strict=True)
    assert written(parsed.texts[0]) + "".join(f"{{{name}}}{written(after)}" for name, after in rest) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no hole", "names no column"),
        ("", "names no column"),
        ("{{question}}", "names no column"),
        ("{question", "the { at character 1 is alone"),
        ("a} {question}", "the } at character 2 is alone"),
        ("{a{b}}", "the { at character 1 is alone"),
        ("{question} {}", "the {} at character 12 names no column"),
        ("{ }", "names no column"),
    ],
)
def test_what_is_no_template_is_said_with_its_place(text: str, says: str) -> None:
    """A brace is easily forgotten in a long prompt."""
    with pytest.raises(UserError, match=says.replace("{", r"\{").replace("}", r"\}")):
        parse_template(text)


def test_three_braces_are_one_around_a_cell() -> None:
    """As in Python: from left to right, two make one."""
    assert parse_template("{{{a}}}").fill(["x"]) == "{x}"
