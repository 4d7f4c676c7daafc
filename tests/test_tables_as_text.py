"""Tables that are no workbooks: .csv, .tsv, JSON Lines and Parquet. What a cell says must not depend on who saved the file."""

import base64
import csv
import datetime
import decimal
import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer.workbook.reading import read_sheet
from tests.workbooks import answered, begin_run, tagged
from workers.contract.errors import WorkbookError

ROWS = [
    ["NO", "質問", "note"],
    ["007", "一つ目、\n二行目", "a, b; c\td | e"],
    ["8", 'say "hi"', ""],
    ["", "", ""],
    ["9", "=1+1", "#N/A"],
]


def delimited(rows: list[list[str]], delimiter: str = ",", line: str = "\r\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=line, quoting=csv.QUOTE_ALL if line == "\r" else csv.QUOTE_MINIMAL).writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_every_cell_is_the_text_that_was_saved(tmp_path: Path, encoding: str, delimiter: str) -> None:
    """Japanese Excel saves cp932 or UTF-8 with a mark, a European one semicolons; "007" is no number in any of them."""
    path = tmp_path / "in.csv"
    path.write_bytes(delimited(ROWS, delimiter).encode(encoding))

    sheet = read_sheet(path)

    assert [sheet.headers, *sheet.rows()] == ROWS
    assert (sheet.name, sheet.header_row) == ("in", 1)


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["in.tsv", "in.csv", "in.txt", "in.xlsx", "in"])
def test_the_name_does_not_decide_the_delimiter(tmp_path: Path, name: str, line: str) -> None:
    """Tabs under the name .csv are common, and so is a text that was given the name of a workbook."""
    path = tmp_path / name
    path.write_bytes(delimited(ROWS[:3], "\t", line).encode())

    assert list(read_sheet(path).rows()) == ROWS[1:3]


def test_a_list_of_questions_needs_no_delimiter(tmp_path: Path) -> None:
    """One question per line below one header: what follows a comma belongs to the question."""
    path = tmp_path / "in.csv"
    path.write_text('question\nWell, what is it?\n"Quoted, and\nin two lines"\na;b\tc|d\n', encoding="utf-8")

    assert read_sheet(path).questions() == ["Well, what is it?", "Quoted, and\nin two lines", "a;b\tc|d"]


def test_the_header_with_questions_settles_the_delimiter(tmp_path: Path) -> None:
    """More commas in the text than semicolons between the cells."""
    path = tmp_path / "in.csv"
    path.write_text("id;question\n1;a, b, c\n2;d, e, f\n", encoding="utf-8")

    assert read_sheet(path).questions() == ["a, b, c", "d, e, f"]


def test_excels_own_hint_settles_the_delimiter(tmp_path: Path) -> None:
    """Excel reads a first line sep=; and shows no row for it."""
    path = tmp_path / "in.csv"
    path.write_text("sep=;\nid;question\n1;a\n", encoding="utf-8")

    sheet = read_sheet(path)

    assert (sheet.questions(), sheet.header_row) == (["a"], 1)


def test_blank_lines_and_ragged_rows_keep_their_place(tmp_path: Path) -> None:
    """A blank line is a row in every spreadsheet program, and a row that is too long loses nothing."""
    path = tmp_path / "in.csv"
    path.write_text("May\n\nNO,question\n1,a\n\n3\n4,d,more\n\n", encoding="utf-8")

    sheet = read_sheet(path)

    assert (sheet.header_row, sheet.headers) == (3, ["NO", "question", ""])
    assert list(sheet.rows()) == [["1", "a", ""], ["", "", ""], ["3", "", ""], ["4", "d", "more"]]


def test_a_quotation_mark_inside_a_cell_is_a_character(tmp_path: Path) -> None:
    """Hand-made files quote as people do."""
    path = tmp_path / "in.csv"
    path.write_text('NO,question\n1,say "hi" now\n2,"hi" he said\n', encoding="utf-8")

    assert read_sheet(path).questions() == ['say "hi" now', "hi he said"]


def test_a_quotation_that_never_ends_is_said_with_its_line(tmp_path: Path) -> None:
    """It would swallow the rest of the file as one question."""
    path = tmp_path / "in.csv"
    path.write_text('NO,question\n1,a\n2,"b\n3,c\n4,d\n', encoding="utf-8")

    with pytest.raises(WorkbookError, match="in line 3 a quotation mark"):
        read_sheet(path)


def test_a_long_cell_is_read_whole(tmp_path: Path) -> None:
    """Python's reader stops at 131,072 characters unless it is told otherwise."""
    path = tmp_path / "in.csv"
    path.write_text(f"NO,question\n1,{'あ' * 200_000}\n", encoding="utf-8")

    assert len(read_sheet(path).questions()[0]) == 200_000


def test_another_encoding_is_said(tmp_path: Path) -> None:
    """Guessing further would turn questions into nonsense."""
    path = tmp_path / "in.csv"
    path.write_bytes("question\nà l'heure, où ÿ\n".encode("latin-1"))

    with pytest.raises(WorkbookError, match="save it as UTF-8"):
        read_sheet(path)


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_a_text_that_is_not_what_its_mark_says_is_refused(tmp_path: Path, name: str) -> None:
    """Half a character at its end, as a broken download has."""
    (tmp_path / name).write_bytes('{"question": "a"}\nquestion\n'.encode("utf-16")[:-1])

    with pytest.raises(WorkbookError, match="says that it is UTF-16, and is not"):
        read_sheet(tmp_path / name)


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=8), delimiter=st.sampled_from([",", "\t", ";", "|"]))
@example(rows=[("", "\r"), ("", "\n")], delimiter=",")
def test_what_a_library_wrote_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str) -> None:
    """Whatever stands in the cells: delimiters, quotes, line breaks, all of Unicode."""
    path = tmp_path_factory.mktemp("texts") / "in.csv"
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("n", "question"), *rows, ("end", "end")])
    path.write_bytes(text.getvalue().encode())

    assert list(read_sheet(path).rows()) == [*map(list, rows), ["end", "end"]]


OBJECTS: list[dict[str, Any]] = [
    {"id": 1, "question": "あ\u2028い", "meta": {"k": [1, "二"]}},
    {"question": "b", "new": True, "id": 2.5},
    {},
    {"id": None, "question": "007", "tags": ["x"], "big": 2**60},
]


@pytest.mark.parametrize("name", ["in.jsonl", "in.ndjson", "in.csv", "in.xlsx", "in"])
def test_every_line_is_a_row_and_every_key_a_column(tmp_path: Path, name: str) -> None:
    """Keys come in the order in which they first appear; an object without a key has an empty cell there."""
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in OBJECTS) + "\n\n", encoding="utf-8")

    sheet = read_sheet(path)

    assert sheet.headers == ["id", "question", "meta", "new", "tags", "big"]
    assert list(sheet.rows()) == [
        [1, "あ\u2028い", '{"k": [1, "二"]}', "", "", ""],
        [2.5, "b", "", True, "", ""],
        [""] * 6,
        ["", "007", "", "", '["x"]', str(2**60)],
    ]


def test_half_a_surrogate_pair_cannot_be_asked(tmp_path: Path) -> None:
    """JSON can spell it, no message can carry it."""
    path = tmp_path / "in.jsonl"
    path.write_text(r'{"question": "a\ud83db \ud83d\ude00"}', encoding="utf-8")

    assert read_sheet(path).questions() == ["a\ufffdb 😀"]


LINES = {
    "a broken line": ('{"question": "a"}\n{"question": \n', "line 2 is not JSON"),
    "a list": ('{"question": "a"}\n\n["b"]\n', "line 3 is not a JSON object"),
    "too deep": ('{"question": "a"}\n' + "[" * 100_000 + "\n", "line 2 is not JSON"),
    "no question": ('{"id": 1}\n', "no question column; its columns are: 'id'"),
    "nothing": ("{}\n", "is empty"),
}


@pytest.mark.parametrize(("text", "helpful"), LINES.values(), ids=LINES)
def test_a_mistake_in_a_line_is_said_with_its_number(tmp_path: Path, text: str, helpful: str) -> None:
    """A file of a million lines is searched by number."""
    path = tmp_path / "in.jsonl"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(WorkbookError, match=helpful) as raised:
        read_sheet(path)

    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("text", ['[{"question": "a"}]', '{\n"question": "a"\n}'])
def test_json_that_is_not_lines_is_said(tmp_path: Path, text: str) -> None:
    """The two are easily mistaken for each other."""
    path = tmp_path / "in.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(WorkbookError, match="one object per line"):
        read_sheet(path)


def test_a_header_row_is_no_matter_of_json_lines(tmp_path: Path) -> None:
    """Row 3 would silently drop two questions."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"question": "a"}\n', encoding="utf-8")

    with pytest.raises(WorkbookError, match="leave out --header-row 3"):
        read_sheet(path, header_row=3)


@pytest.mark.parametrize(("name", "text"), [("in.csv", "May,\nNO,question\n7,one?\n"), ("in.jsonl", '{"NO": "7", "question": "one?"}\n')])
def test_the_workbook_of_a_run_is_made_from_the_copy_of_a_text_too(tmp_path: Path, name: str, text: str) -> None:
    """Which sheet and which header row it was is kept with the run, and must fit when it is read again."""
    source = tmp_path / name
    source.write_text(text, encoding="utf-8")

    with begin_run(tmp_path, source) as store:
        store.store([answered(0, tagged("42"), run_id=store.manifest.run_id)])
        with store.source() as copy:
            manifest = store.manifest
            again = list(read_sheet(copy, manifest.sheet, manifest.question_column, manifest.header_row).rows())

    assert again == [["7", "one?"]]


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    """What data people keep questions in."""
    pyarrow = pytest.importorskip("pyarrow", reason="kotae[parquet] is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678)  # noqa: DTZ001 - cells have no time zone
    columns: dict[str, Any] = {
        "question": pyarrow.array(["あ", None, "c"]),
        "n": pyarrow.array([1, None, 2**60]),
        "x": pyarrow.array([0.5, 2.0, None]),
        "flag": pyarrow.array([True, False, None]),
        "day": pyarrow.array([moment.date(), None, None]),
        "moment": pyarrow.array([moment, None, None], pyarrow.timestamp("ns")),
        "zoned": pyarrow.array([moment.replace(tzinfo=datetime.UTC), None, None], pyarrow.timestamp("ns", "UTC")),
        "span": pyarrow.array([datetime.timedelta(hours=30), None, None], pyarrow.duration("ns")),
        "price": pyarrow.array([decimal.Decimal("2.50"), None, None]),
        "kind": pyarrow.array(["k", "k", None]).dictionary_encode(),
        "list": pyarrow.array([["二"], None, []]),
    }
    path = tmp_path / "in.csv"
    parquet.write_table(pyarrow.table(columns), path)

    sheet = read_sheet(path)

    assert sheet.headers == list(columns)
    zoned = "2026-01-02 03:04:05.000678+00:00"
    assert list(sheet.rows()) == [
        ["あ", 1, 0.5, True, moment.date(), moment, zoned, datetime.timedelta(hours=30), 2.5, "k", '["二"]'],
        ["", "", 2.0, False, "", "", "", "", "", "k", ""],
        ["c", str(2**60), "", "", "", "", "", "", "", "", "[]"],
    ]


def test_a_damaged_parquet_file_is_said(tmp_path: Path) -> None:
    """Cut off by a full disk."""
    pytest.importorskip("pyarrow", reason="kotae[parquet] is not installed")
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1" + bytes(100))

    with pytest.raises(WorkbookError, match="damaged Parquet"):
        read_sheet(path)


#: A column of two cells, one of them empty, that says of itself that none may be.
CONTRADICTION = (
    b"P(e~L6$BLu6$(rh0u=xf00031003bX02LAy5-b%26%Z8$6$TtO0w@7t7y)4s5dZ)H0ssI20|5a702KroEHwZa26JO*Wo=;<0ss{ZB>)%*adl;LbZKvHB>+qu"
    b"0000M1Q{F|93}u96$}|Q00s~l7zlB7Wpi|CZ*CO;76cY@7IG#oCI}oh0w@7t7y)4s5dax16$BLk6#@Vi02L4w0suS~0vQGwCISKg000(p76c{;7IFY6AaG%F"
    b"adl;MEn{$SEn#wUZ+9SeWpZ<AZ*CwmHZCwOF&P{j0001{0000`K~ga"
)


def test_a_file_that_the_library_dies_of_is_refused_in_one_line(tmp_path: Path) -> None:
    """It ends the process in the midst of all others' work."""
    path = tmp_path / "in.parquet"
    path.write_bytes(base64.b85decode(CONTRADICTION))

    with pytest.raises(WorkbookError, match="is a damaged Parquet file"):
        read_sheet(path)


def test_parquet_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 50 MB that most people never need."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "in.parquet"
    path.write_bytes(b"PAR1" + bytes(100))

    with pytest.raises(WorkbookError, match=r"pip install 'kotae\[parquet\]'"):
        read_sheet(path)


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow")
def test_times_that_python_has_not_are_text(tmp_path: Path) -> None:
    """The end of the year 9999 is a usual mark for "never"; in Japan it lies in the year 10000."""
    import pyarrow
    import pyarrow.parquet

    never = pyarrow.array([253402300799000000], pyarrow.timestamp("us", "Asia/Tokyo"))
    pyarrow.parquet.write_table(
        pyarrow.table({"question": ["a"], "until": never, "day": pyarrow.array([2**30], pyarrow.date32())}), tmp_path / "q.parquet"
    )

    (row,) = read_sheet(tmp_path / "q.parquet").rows()

    assert row[0] == "a"
    assert all(isinstance(cell, str) and cell for cell in row[1:])


def test_times_within_lists_end_at_microseconds_too(tmp_path: Path) -> None:
    """pandas writes nanoseconds wherever it can."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    kind = pyarrow.list_(pyarrow.struct([("at", pyarrow.timestamp("ns"))]))
    table = pyarrow.table({"question": ["a", "b"], "log": pyarrow.array([[{"at": 1_700_000_000_000_000_123}], None], kind)})
    parquet.write_table(table, tmp_path / "in.parquet")

    assert list(read_sheet(tmp_path / "in.parquet").rows()) == [["a", '[{"at": "2023-11-14 22:13:20"}]'], ["b", ""]]
