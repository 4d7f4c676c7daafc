"""Any source to any output: what each kind of file holds, read back by the libraries that people read it with."""

import csv
import datetime
import json
import os
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from producer.manage import refuse_to_overwrite_the_source
from producer.workbook.as_delimited import CsvStyle, guarded, write_delimited
from producer.workbook.as_json_lines import write_json_lines
from producer.workbook.as_parquet import write_parquet
from producer.workbook.assembly import write_workbook
from producer.workbook.columns import distinct_names
from producer.workbook.destination import check_writable
from producer.workbook.reading import read_sheet
from producer.workbook.texts import Texts
from producer.workbook.writing import Table, write_tables
from tests.workbooks import answered, begin_run, grid, save_workbook, sheet_names, tagged, unanswered
from workers.contract.errors import UserError, WorkbookError

pyarrow = pytest.importorskip("pyarrow", reason="kotae[parquet] is not installed")
parquet = pytest.importorskip("pyarrow.parquet")

TEXTS = [
    "=cmd|'/c calc'!A0",
    "@SUM(A1)",
    "＝1+1",
    "\t=1",
    "\n=1",
    "'=1",
    "'quoted",
    "- a list",
    "-1.5",
    "#N/A",
    "_x0041_",
    "NaN",
    "TRUE",
    "007",
    'two\r\nlines, "quoted"; \'and\ttabs',
    "\n\nleading",
    " spaces ",
    "\x00\x01\x0b\x1b\x7f",
    "\x85\u2028\u2029\ufeff\ufffe",
    "مرحبا שלום e\u0301 👩‍👧",
    "x" * 40_000,
    "😀" * 20_000,
]
OURS = ["answer", "reasoning", "outcome", "finish_reason", "prompt_tokens", "output_tokens", "error"]


def answer_everything(folder: Path, source: Path, out: str, csv_style: CsvStyle = CsvStyle.SAFE, answers: list[str] | None = None) -> Path:
    """Give every row of a source an answer, by default that its number, and write the output."""
    with begin_run(folder, source, csv=csv_style) as store:
        for row in range(store.manifest.rows):
            text = f"<reasoning>why</reasoning><answer>{answers[row] if answers else row}</answer>"
            store.store([answered(row, text, run_id=store.manifest.run_id)])
        write_workbook(store, folder / out)
    return folder / out


def save_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Save JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of JSON Lines, cut as careless programs cut."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def delimited(path: Path) -> list[dict[str, str]]:
    """Return the rows of a .csv or .tsv."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True))


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet", "out.csv", "out.tsv"])
def test_every_text_comes_back_whole(tmp_path: Path, out: str) -> None:
    """These are the files that hold what a workbook has to cut."""
    source = save_lines(tmp_path / "in.jsonl", [{"question": "q", "text": text} for text in TEXTS])

    path = answer_everything(tmp_path, source, out, CsvStyle.RAW, TEXTS)

    match path.suffix:
        case ".jsonl":
            read = lines(path)
        case ".parquet":
            read = parquet.read_table(path).to_pylist()
        case _:
            read = delimited(path)
    assert [row["text"] for row in read] == TEXTS
    assert [row["answer"] for row in read] == [text.replace("\n\n", "\n").strip() for text in TEXTS]


def test_no_text_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    """Excel runs what stands in a .csv; the model, or whoever wrote the questions, decides what that is."""
    source = save_lines(tmp_path / "in.jsonl", [{"question": "q", "=text": text, "n": -1} for text in TEXTS])

    path = answer_everything(tmp_path, source, "out.csv", answers=TEXTS)

    rows = delimited(path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "or Excel takes it for another encoding"
    assert list(rows[0]) == ["question", "'=text", "n", *OURS]
    assert [row["'=text"] for row in rows[:9]] == [f"'{text}" for text in TEXTS[:6]] + ["'quoted", "'- a list", "-1.5"]
    assert [row["'=text"] for row in rows[9:17]] == TEXTS[9:17]
    assert {row["n"] for row in rows} == {"-1"}


@given(st.text(st.sampled_from("=+-@＝'\t\r\n\x00 a1.e"), max_size=6))
def test_a_guarded_text_can_be_had_back(text: str) -> None:
    """By one rule: an apostrophe before another guarded text, or before what would be guarded, is ours."""
    shown = guarded(text)

    back = shown[1:] if shown.startswith("'") and guarded(shown[1:]) != shown[1:] else shown

    assert back == text
    assert not shown.lstrip().startswith(tuple("=@＝")) or shown.startswith("'")


def test_a_csv_of_ours_is_read_whatever_a_model_said(tmp_path: Path) -> None:
    """Also null characters, which make most programs take a file for none of text."""
    source = save_lines(tmp_path / "in.jsonl", [{"question": "q", "text": text} for text in TEXTS])

    path = answer_everything(tmp_path, source, "out.csv", CsvStyle.RAW, TEXTS)

    assert [row[1] for row in read_sheet(path).rows()] == TEXTS


def test_csv_for_programs_is_the_text_itself(tmp_path: Path) -> None:
    """No mark and no apostrophe: what a program reads is what was said."""
    source = save_lines(tmp_path / "in.jsonl", [{"question": "=q"}])

    path = answer_everything(tmp_path, source, "out.csv", CsvStyle.RAW)

    assert path.read_bytes().startswith(b"question,answer")
    assert delimited(path)[0]["question"] == "=q"


MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - cells have no time zone
CELLS: dict[str, tuple[list[Any], str, list[Any]]] = {
    "n": ([1, "", -3], "int64", [1, None, -3]),
    "x": ([0.5, 2, ""], "double", [0.5, 2, None]),
    "flag": ([True, False, ""], "bool", [True, False, None]),
    "day": ([MOMENT.date(), "", MOMENT.date()], "date32[day]", ["2026-01-02", None, "2026-01-02"]),
    "moment": ([MOMENT, "", MOMENT], "timestamp[us]", ["2026-01-02T03:04:05", None, "2026-01-02T03:04:05"]),
    "time": ([MOMENT.time(), "", ""], "time64[us]", ["03:04:05", None, None]),
    "span": ([datetime.timedelta(hours=30), "", ""], "duration[us]", ["30:00:00", None, None]),
    "midnights": (
        [MOMENT, MOMENT.replace(hour=0, minute=0, second=0), ""],
        "timestamp[us]",
        ["2026-01-02T03:04:05", "2026-01-02", None],
    ),
    "spans": ([datetime.timedelta(hours=30), datetime.timedelta(hours=3), ""], "duration[us]", ["30:00:00", "03:00:00", None]),
    "text": (["007", "", "#N/A"], "string", ["007", None, "#N/A"]),
    "mixed": ([1, "a", MOMENT.date()], "string", [1, "a", "2026-01-02"]),
    "empty": (["", "", ""], "string", [None, None, None]),
}


@pytest.mark.parametrize("epoch", [1900, 1904])
def test_cells_keep_their_types(tmp_path: Path, epoch: int) -> None:
    """Numbers still add up and dates still sort where the answers are looked into."""
    rows = [["question", *CELLS], *(["q", *(cells[row] for cells, _, _ in CELLS.values())] for row in range(3))]
    source = save_workbook(tmp_path / "in.xlsx", {"S": rows}, date_1904=epoch == 1904)

    as_lines = lines(answer_everything(tmp_path, source, "out.jsonl"))
    table = parquet.read_table(answer_everything(tmp_path, source, "out.parquet"))

    assert {name: [row[name] for row in as_lines] for name in CELLS} == {name: told for name, (_, _, told) in CELLS.items()}
    assert {name: str(table.schema.field(name).type) for name in CELLS} == {name: kind for name, (_, kind, _) in CELLS.items()}
    for name in ("n", "x", "flag", "day", "moment", "time", "span", "midnights", "spans", "text"):
        assert table[name].to_pylist() == [None if cell == "" else cell for cell in CELLS[name][0]], name
    assert [str(table.schema.field(name).type) for name in OURS] == ["string"] * 4 + ["int64"] * 2 + ["string"]
    assert (table["output_tokens"].to_pylist(), as_lines[0]["output_tokens"], as_lines[0]["error"]) == ([7, 7, 7], 7, None)


OBJECTS: list[dict[str, Any]] = [
    {"question": "a", "tags": ["x", {"k": "二"}], "id": 2**60, "huge": 2**70, "none": None, "text": "", "x": 1.0},
    {"question": "b", "tags": [], "id": 7, "huge": 1, "none": None, "text": "t", "x": -0.5},
]


def test_json_lines_come_out_as_they_went_in(tmp_path: Path) -> None:
    """Lists, numbers beyond those of a spreadsheet, and the difference between an empty text and none."""
    path = answer_everything(tmp_path, save_lines(tmp_path / "in.jsonl", OBJECTS), "out.jsonl")

    assert [{name: row[name] for name in OBJECTS[0]} for row in lines(path)] == OBJECTS


def typed_table() -> Any:
    """Return a table with what data people have in theirs, and no spreadsheet."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]
    columns = {
        "question": pyarrow.array(["a", "", None, "b"]),
        "messages": pyarrow.array([turns, None, [], turns]),
        "id": pyarrow.array([2**63 + 1, 0, 3, None], pyarrow.uint64()),
        "x": pyarrow.array([0.5, 1e300, None, -0.0]),
        "half": pyarrow.array([1.5, None, 2, 3], pyarrow.float32()),
        "price": pyarrow.array([Decimal("1.10"), None, Decimal(0), Decimal("-12345678901234567890.12")], pyarrow.decimal128(38, 2)),
        "until": pyarrow.array([1, None, 2**60, 3], pyarrow.timestamp("ns", "Asia/Tokyo")),
        "kind": pyarrow.array(["p", "q", None, "p"]).dictionary_encode(),
        "raw": pyarrow.array([b"\xff\x00", b"", None, b"x"]),
        "answer": pyarrow.nulls(4),
    }
    return pyarrow.table(columns)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_parquet_file_comes_out_with_the_types_it_went_in_with(tmp_path: Path, rows: int) -> None:
    """Lists of messages, numbers of 64 bits and moments of a time zone are what data people have; text would be something else."""
    table = typed_table()
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=rows)

    out = parquet.read_table(answer_everything(tmp_path, tmp_path / "in.parquet", "out.parquet"))

    names = table.column_names[:-1]
    assert out.column_names == [*names, *OURS]
    assert out.select(names).schema.types == table.select(names).schema.types
    assert out.select(names).equals(table.select(names))
    assert out["answer"].to_pylist() == ["0", None, None, "3"]


def test_rows_at_the_end_of_a_parquet_file_in_which_nothing_stands_are_left_out(tmp_path: Path) -> None:
    """As they are in any other file."""
    table = pyarrow.table({"question": ["a", None, "b", None, None], "n": pyarrow.array([None, 1, None, None, None], pyarrow.int8())})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=2)

    out = parquet.read_table(answer_everything(tmp_path, tmp_path / "in.parquet", "out.parquet"))

    assert out.select(["question", "n"]).equals(table.slice(0, 3))


@pytest.mark.parametrize("out", ["out.jsonl", "out.parquet"])
def test_columns_without_a_name_of_their_own_get_one(tmp_path: Path, out: str) -> None:
    """Where columns are known by name alone, two of one name would be one."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["memo", "question", "memo", "", "memo (2)"], ["a", "q", "b", "c", "d"]]})

    with begin_run(tmp_path, source) as store:
        told = write_workbook(store, tmp_path / out)

    names = list(lines(tmp_path / out)[0]) if out == "out.jsonl" else parquet.read_schema(tmp_path / out).names
    assert names[:5] == ["memo", "question", "memo (3)", "column 4", "memo (2)"]
    assert told == ["columns whose header is missing or not the only one of its kind are called: memo (3), column 4"]


@given(st.lists(st.sampled_from(["", "a", "a (2)", "column 1", "column 2", "b"]), max_size=8))
def test_no_two_names_are_equal(headers: list[str]) -> None:
    """And who has one of his own keeps it."""
    names = distinct_names(headers)

    assert len(set(names)) == len(headers)
    assert all(names)
    assert all(name == header for name, header in zip(names, headers, strict=True) if header and headers.count(header) == 1)


@pytest.mark.parametrize("out", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
def test_every_output_says_where_its_answers_come_from(tmp_path: Path, out: str) -> None:
    """Months later somebody asks which model that was, and there is no sheet Run."""
    source = save_lines(tmp_path / "in.jsonl", [{"question": "q"}, {"question": "r"}])

    with begin_run(tmp_path, source, seed=2**60) as store:
        run_id = store.manifest.run_id
        store.store([answered(0, run_id=run_id), unanswered(1, run_id=run_id)])
        write_workbook(store, tmp_path / out)

    if out == "out.parquet":
        record = json.loads(parquet.read_schema(tmp_path / out).metadata[b"kotae.run"])
    else:
        record = json.loads((tmp_path / f"{out}.run.json").read_text(encoding="utf-8"))
    assert (record["run"], record["served name"], record["sampling: seed"]) == (run_id, "phi-4", 2**60)
    assert (record["rows answered"], record["rows failed"]) == (1, 1)
    assert (tmp_path / f"{out}.run.json").exists() == (out != "out.parquet")


def test_a_row_without_a_reply_says_so_where_there_is_no_sheet_of_errors(tmp_path: Path) -> None:
    """A row that nothing is known of is empty; an answer without words is one."""
    source = save_lines(tmp_path / "in.jsonl", [{"question": "a"}, {"question": "b"}, {"question": "c"}])

    with begin_run(tmp_path, source) as store:
        run_id = store.manifest.run_id
        store.store([unanswered(0, error="too long", run_id=run_id), answered(1, tagged(""), run_id=run_id)])
        write_workbook(store, tmp_path / "out.jsonl")

    told = [[row[name] for name in ("answer", "outcome", "error")] for row in lines(tmp_path / "out.jsonl")]
    assert told == [[None, "failed", "too long"], ["", "answered", None], [None, None, None]]


def rows_that_break() -> Iterator[list[Any]]:
    """A failure in the middle."""
    yield ["a"]
    raise RuntimeError("boom")


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_failure_in_the_middle_leaves_the_file_before_whole(tmp_path: Path, out: str) -> None:
    """As with workbooks: what was there may be the only copy."""
    path = tmp_path / out
    path.write_bytes(b"before")

    with pytest.raises(RuntimeError):  # noqa: PT012 - one of three
        match path.suffix:
            case ".csv":
                write_delimited(path, ["n"], rows_that_break(), raw=False)
            case ".jsonl":
                write_json_lines(path, ["n"], rows_that_break())
            case _:
                write_parquet(path, ["n"], [[str]], rows_that_break(), {})

    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_without_its_library_is_said_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the night of GPUs."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(WorkbookError, match=r"pip install 'kotae\[parquet\]'"):
        check_writable(tmp_path / "out.parquet")


def test_a_record_that_cannot_be_written_is_said_before_too(tmp_path: Path) -> None:
    """It belongs to the output."""
    (tmp_path / "out.csv.run.json").mkdir()

    with pytest.raises(WorkbookError, match=r"out\.csv\.run\.json is a folder"):
        check_writable(tmp_path / "out.csv")
    check_writable(tmp_path / "out.xlsx")


def test_rows_beyond_a_sheet_go_on_in_further_sheets(tmp_path: Path) -> None:
    """Excel's sheets end, and XlsxWriter drops what is beyond without a word."""
    path, long = tmp_path / "out.xlsx", "長い名前" * 7
    tables = [
        Table(long, ["NO", "question"], ([n, f"q{n}"] for n in range(7)), {1}),
        Table(f"{long[:27]} (2)", ["what"], [["x"]] * 3),
        Table("Errors", ["row"], [[n] for n in range(4)]),
    ]

    told = write_tables(path, tables, MOMENT, most_rows=4)

    assert sheet_names(path) == [long, f"{long[:25]} (2.1)", f"{long[:27]} (3)", f"{long[:27]} (2)", "Errors", "Errors (2)"]
    sheets = [grid(path, name) for name in sheet_names(path)[:3]]
    assert [sheet[0] for sheet in sheets] == [["NO", "question"]] * 3
    assert [row for sheet in sheets for row in sheet[1:]] == [[n, f"q{n}"] for n in range(7)]
    assert grid(path, "Errors (2)") == [["row"], [3]]
    assert [line.partition(" has more rows than a sheet can hold (3 below its header)")[0] for line in told] == [f"'{long}'", "'Errors'"]


def test_a_table_that_just_fits_is_one_sheet(tmp_path: Path) -> None:
    """The row after the last would otherwise be an empty sheet."""
    path = tmp_path / "out.xlsx"

    assert write_tables(path, [Table("S", ["n"], [[1], [2], [3]])], MOMENT, most_rows=4) == []
    assert sheet_names(path) == ["S"]


def test_texts_beyond_the_memory_that_they_may_take_lie_in_a_file() -> None:
    """A million questions are asked from there."""
    texts = Texts()
    for number in range(1000):
        texts.append(f"{number} 質問\ud83d" * 20_000)

    assert (len(texts), texts[0][:4], texts[999][:5], texts[-1] == texts[999]) == (1000, "0 質問", "999 質", True)
    texts.cut(2)
    assert len(texts) == 2
    with pytest.raises(IndexError):
        texts[2]


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_a_pass_over_the_rows_can_be_begun_again(tmp_path: Path, name: str) -> None:
    """Rows are read for the answers' columns, for the output, and for whatever else looks at every row."""
    records = [{"question": f"q{n}", "late" if n == 2 else "n": n} for n in range(3)]
    match name:
        case "in.csv":
            (tmp_path / name).write_text("question,n,late\nq0,0,\nq1,1,\nq2,,2\n\n,,\n", encoding="utf-8")
        case "in.jsonl":
            save_lines(tmp_path / name, [*records, {}, {"n": None}])
        case _:
            parquet.write_table(pyarrow.Table.from_pylist([*records, {}], schema=None), tmp_path / name)

    sheet = read_sheet(tmp_path / name)

    assert (sheet.height, len(sheet.questions())) == (3, 3)
    assert list(sheet.rows()) == list(sheet.rows())
    assert [row[0] for row in sheet.rows()] == ["q0", "q1", "q2"]


def test_columns_that_only_errors_below_the_data_stand_in_are_empty(tmp_path: Path) -> None:
    """A formula that was filled down for good is no reason to set our answers beside its column."""
    path = tmp_path / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        worksheet = workbook.add_worksheet()
        worksheet.write_column(0, 0, ["question", "a", "b"])
        worksheet.write_string(0, 1, "answer")
        worksheet.write_formula(3, 1, "=NA()", None, "#N/A")

    sheet = read_sheet(path)

    assert (sheet.height, [bool(kinds) for kinds in sheet.kinds]) == (2, [True, False])


def test_json_lines_have_no_numbers_that_json_has_not(tmp_path: Path) -> None:
    """Python writes and reads NaN and Infinity; JSON knows neither, however deep they stand."""
    (tmp_path / "in.jsonl").write_text('{"question": "a", "x": [NaN, 1e999, {"y": -Infinity}], "z": 1.5}\n')

    path = answer_everything(tmp_path, tmp_path / "in.jsonl", "out.jsonl")

    assert lines(path)[0]["x"] == [None, None, {"y": None}]


def test_the_record_beside_an_output_replaces_nothing_of_others(tmp_path: Path) -> None:
    """Least of all the source."""
    source = save_lines(tmp_path / "src.csv.run.json", [{"question": "precious"}])

    with pytest.raises(UserError, match=r"beside .*, which is the workbook itself"):
        refuse_to_overwrite_the_source(source, tmp_path / "src.csv")
    with pytest.raises(WorkbookError, match="is not its own; move it away"):
        check_writable(tmp_path / "src.csv")

    path = answer_everything(tmp_path, source, "out.csv")
    check_writable(path)


def check_output_of(source: Path, out: Path) -> None:
    refuse_to_overwrite_the_source(source, out)
    check_writable(out)


def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    """Also where only the record's would be too long, and where links lead in a circle."""
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for name in ("x" * 300 + ".xlsx", "x" * 245 + ".jsonl", "loop.csv"):
        with pytest.raises(UserError, match=r"cannot be (written|used)") as error:
            check_output_of(tmp_path / "in.xlsx", tmp_path / name)
        assert "\n" not in str(error.value)
    for nothing in ("", ".", "/"):
        with pytest.raises(WorkbookError, match=r"must end in \.xlsx"):
            check_output_of(tmp_path / "in.xlsx", Path(nothing))


@pytest.mark.parametrize("out", ["out.xlsx", "out.csv"])
def test_a_name_that_is_no_utf8_is_a_name(tmp_path: Path, out: str) -> None:
    """Archives from Windows unpack to such names elsewhere."""
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\x8e\xbf\x96\xe2.csv"))
    source.write_text("question\nq\n")

    path = answer_everything(tmp_path, source, out)

    assert [row[0] for row in read_sheet(path, "____" if out == "out.xlsx" else None).rows()] == ["q"]


def test_the_same_table_under_another_name_is_written_under_that(tmp_path: Path) -> None:
    """A .csv is a sheet of its file's name."""
    first = save_lines(tmp_path / "first.jsonl", [{"question": "a"}])
    with begin_run(tmp_path, first) as store:
        second = first.rename(tmp_path / "second.jsonl")
        store.replace_source(second)
        store.update(sheet="second")
        write_workbook(store, tmp_path / "out.xlsx")

    assert sheet_names(tmp_path / "out.xlsx")[0] == "second"
