"""How a workbook is written. It may replace the only copy, and a model may say anything at all."""

import datetime
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openpyxl
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from producer.workbook.destination import check_writable
from producer.workbook.limits import MAX_CELL, cut_for_excel, sheet_name
from producer.workbook.reading import Cell, read_sheet
from producer.workbook.writing import Table, write_tables
from tests.workbooks import grid, sheet_names
from workers.contract.errors import WorkbookError

CREATED = datetime.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - a workbook's properties have no time zone

TEXTS = [
    "=1+1",
    "== 見出し ==",
    "=",
    "{=A1}",
    "+1",
    "-1",
    "@SUM(A1)",
    "http://x",
    "mailto:a@example.org",
    "internal:S!A1",
    "#N/A",
    "007",
    "1e5",
    "TRUE",
    "12%",
    "'quoted",
    "  spaces  ",
    "\n",
    "\n\nleading and trailing\n",
    "\ttab",
    "CRLF\r\nand CR\r.",
    "<b>&amp;</b> ]]> \"'",
    "<|im_end|></s>",
    "\x00\x01\x08\x0b\x0c\x0e\x1b\x1f",
    "\x7f\x85\u2028\ufeff\ufffd",
    "_x0041_",
    "_x000D_",
    "_x005F_",
    "a_x000d_\r\n_",
    "😀 𠮷 👨‍👩‍👧 e\u0301",
    "x" * MAX_CELL,
    "😀" * (MAX_CELL // 2),
    "\x1b" * MAX_CELL,
]


def write(path: Path, *cells: Any) -> Path:
    write_tables(path, [Table("S", ["question", "cell"], [["q", cell] for cell in cells])], CREATED)
    return path


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for what several tests or examples share."""
    return tmp_path_factory.mktemp("writing")


@pytest.fixture(scope="module")
def by_calamine(folder: Path) -> list[Any]:
    """All the texts, written to one workbook, as our own reader sees them."""
    return [row[1] for row in grid(write(folder / "texts.xlsx", *TEXTS), "S")[1:]]


@pytest.fixture(scope="module")
def by_openpyxl(folder: Path) -> list[Any]:
    """The same as another reader sees them, which knows formulas and links."""
    sheet = openpyxl.load_workbook(write(folder / "texts.xlsx", *TEXTS))["S"]
    return [sheet.cell(row, 2) for row in range(2, len(TEXTS) + 2)]


every_text = pytest.mark.parametrize(("number", "text"), list(enumerate(TEXTS)), ids=[ascii(text[:24]) for text in TEXTS])


@every_text
def test_a_text_comes_back_as_it_was(by_calamine: list[Any], number: int, text: str) -> None:
    """The workbook is what people judge answers by: what the model said has to stand in it, to the byte."""
    assert by_calamine[number] == text


@every_text
def test_a_text_is_never_anything_but_text(by_openpyxl: list[Any], number: int, text: str) -> None:
    """An answer "=1+1" must not be calculated, nor a link followed, nor "007" counted, on the machine of whoever opens it."""
    cell = by_openpyxl[number]

    assert (cell.data_type, cell.hyperlink) == ("s", None)
    if any(character < " " and character not in "\t\n\r" for character in text):
        assert unescape(cell.value) == text  # XML has no form for them, and openpyxl does not read Excel's
    else:
        assert cell.value == text


@pytest.mark.parametrize("engine", ["calamine", "openpyxl"])
def test_pandas_reads_every_text_as_it_was(folder: Path, engine: Literal["calamine", "openpyxl"]) -> None:
    """People judge answers with pandas: by default it reads with openpyxl, which knows none of Excel's escapes."""
    texts = [text for text in TEXTS if engine == "calamine" or not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)]
    path = write(folder / f"{engine}.xlsx", *texts)

    table = pandas.read_excel(path, engine=engine, dtype=object, keep_default_na=False, na_values=[])

    assert list(table["cell"]) == texts


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\ufffeb\uffff", "a\ufffdb\ufffd"),
        ("high \ud83d, low \ude00", "high \ufffd, low \ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
    ],
    ids=ascii,
)
def test_what_xml_cannot_hold_becomes_a_replacement_character(tmp_path: Path, text: str, written: str) -> None:
    """Half a character from a broken token must not cost the workbook; the raw text stays in the run store."""
    path = write(tmp_path / "out.xlsx", text)

    assert grid(path, "S")[1] == ["q", written]


def test_a_text_too_long_for_a_cell_is_cut_and_says_so(tmp_path: Path) -> None:
    """Excel would call the file damaged; and a reader must see that there was more."""
    path = write(tmp_path / "out.xlsx", "x" * 40_000)

    written = grid(path, "S")[1][1]

    assert re.fullmatch(r"x+… \[cut for Excel; the whole text is in the run store\]", written)
    assert len(written) == MAX_CELL


def test_the_limit_of_a_cell_counts_utf16_units(tmp_path: Path) -> None:
    """Excel counts an emoji as two; and no emoji is cut in half."""
    path = write(tmp_path / "out.xlsx", "😀" * 20_000)

    written = grid(path, "S")[1][1]

    assert re.fullmatch(r"😀+… \[cut for Excel; the whole text is in the run store\]", written)
    assert MAX_CELL - 1 <= utf16_units(written) <= MAX_CELL


@pytest.mark.parametrize(
    "cell",
    [
        0,
        -7,
        2**53,
        2.5,
        1e-300,
        True,
        False,
        CREATED,
        CREATED.replace(microsecond=678_000),
        datetime.date(2026, 1, 2),
        datetime.time(3, 4, 5),
        datetime.timedelta(hours=30),
        "",
    ],
    ids=repr,
)
def test_other_cells_keep_value_and_type(tmp_path: Path, cell: Cell) -> None:
    """The source's dates and numbers must still sort and add up in the output."""
    path = write(tmp_path / "out.xlsx", cell, "last")

    written = next(read_sheet(path).rows())[1]

    assert written == cell
    assert isinstance(written, type(cell) if not isinstance(cell, int) or isinstance(cell, bool) else int | float)


def test_columns_are_as_wide_as_what_stands_in_them(tmp_path: Path) -> None:
    """Excel shows a moment in a narrow column as ####, and of a long text what fits on one line."""
    headers = ["n", "moment", "区分", "prompt_tokens", "note", "code", "answer"]
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - a cell has no time zone
    row: list[Any] = [1, moment, "日本の地理と歴史", 5, "a long text " * 20, "if x:\n    y", "42"]
    write_tables(tmp_path / "out.xlsx", [Table("S", headers, iter([row] * 300), {6})], CREATED)

    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").worksheets[0]
    widths = {}
    for dimension in sheet.column_dimensions.values():  # those of equal width stand together
        widths |= dict.fromkeys(range(dimension.min - 1, dimension.max), dimension.width)
    cells = [sheet.cell(200, column) for column in range(1, 8)]
    assert [int(widths[column]) for column in range(7)] == [10, 20, 17, 15, 60, 10, 60]
    assert [bool(cell.alignment.wrap_text) for cell in cells] == [False, False, False, False, True, True, True]
    assert {cell.alignment.vertical for cell in cells} == {"top"}, "or numbers stand at the foot of a long answer"


def test_several_sheets_stand_in_the_order_given(tmp_path: Path) -> None:
    """The answers come first; who opens the file should not look at provenance."""
    path = tmp_path / "out.xlsx"

    write_tables(path, [Table("質問", ["a"], [["1"]]), Table("Run", ["b"], []), Table("Errors", ["c"], [["3"]])], CREATED)

    assert sheet_names(path) == ["質問", "Run", "Errors"]
    assert [grid(path, name) for name in sheet_names(path)] == [[["a"], ["1"]], [["b"]], [["c"], ["3"]]]


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    """Somebody who compares checksums must not be alarmed by a clock."""
    first, second = (write(tmp_path / name, *TEXTS, 1, 2.5) for name in ("first.xlsx", "second.xlsx"))

    assert first.read_bytes() == second.read_bytes()


def test_the_file_before_is_replaced(tmp_path: Path) -> None:
    """Collecting again brings the output up to date, with nobody deleting anything, and leaves nothing else in the folder."""
    path = write(tmp_path / "out.xlsx", "old")

    write(path, "new")

    assert grid(path, "S")[1] == ["q", "new"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_permissions_of_the_file_before_stay(tmp_path: Path) -> None:
    """A private workbook must not become everybody's because it was written again."""
    path = write(tmp_path / "out.xlsx", "old")
    path.chmod(0o640)

    write(path, "new")

    assert path.stat().st_mode & 0o777 == 0o640


def test_the_file_before_stays_whole_until_the_new_one_is_complete(tmp_path: Path) -> None:
    """Somebody may be reading the old one all the while, and a write may still fail."""
    path = write(tmp_path / "out.xlsx", "old")
    before = path.read_bytes()
    seen: list[bytes] = []

    def rows() -> Iterator[list[Cell]]:
        for number in range(3):
            seen.append(path.read_bytes())
            yield [number]

    write_tables(path, [Table("S", ["n"], rows())], CREATED)

    assert seen == [before] * 3
    assert path.read_bytes() != before


def test_a_killed_writer_leaves_the_file_before_as_it_was(tmp_path: Path) -> None:
    """The machine may lose power in the middle of a million rows; yesterday's workbook must survive that."""
    path = write(tmp_path / "out.xlsx", "old")
    before = path.read_bytes()
    program = """if True:
        import datetime, os, pathlib, signal, sys
        from producer.workbook.writing import Table, write_tables
        def rows():
            for number in range(1000):
                yield [number]
            os.kill(os.getpid(), signal.SIGKILL)
        write_tables(pathlib.Path(sys.argv[1]), [Table("S", ["n"], rows())], datetime.datetime(2026, 1, 1))
    """

    ended = subprocess.run([sys.executable, "-c", program, str(path)], timeout=60)

    assert ended.returncode == -9
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    """The answers are in the run store; the person only has to give another name."""
    path = tmp_path / "no such folder" / "out.xlsx"

    with pytest.raises(WorkbookError) as raised:
        write(path, "a")

    assert str(raised.value) == f"cannot write {path}: No such file or directory"


@pytest.mark.parametrize(
    ("name", "helpful"),
    [
        ("folder.xlsx", "is a folder; give the name of a workbook"),
        ("out.xls", "must end in .xlsx, .csv, .tsv, .jsonl or .parquet"),
        ("out.ods", "must end in .xlsx"),
        ("out", "must end in .xlsx"),
        ("missing/out.xlsx", "cannot be written: No such file or directory"),
        ("file.txt/out.xlsx", "cannot be written: Not a directory"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(tmp_path: Path, name: str, helpful: str) -> None:
    """To learn after a night of GPUs that the folder was mistyped is too late."""
    (tmp_path / "folder.xlsx").mkdir()
    (tmp_path / "file.txt").touch()

    with pytest.raises(WorkbookError) as raised:
        check_writable(tmp_path / name)

    assert helpful in str(raised.value)
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("name", ["out.xlsx", "OUT.XLSX", "答え.xlsx"])
def test_checking_an_output_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    """A check is only a check: a run that is then refused must not have left an empty workbook."""
    check_writable(tmp_path / name)

    assert list(tmp_path.iterdir()) == []


def test_checking_an_output_leaves_the_file_before_alone(tmp_path: Path) -> None:
    """Until the answers are there, the old workbook is the best there is."""
    path = write(tmp_path / "out.xlsx", "old")
    before = path.read_bytes()

    check_writable(path)

    assert path.read_bytes() == before


awkward = st.sampled_from(
    ["=", "{", "}", "_x0041_", "_", "x000D", "\r", "\n", "\r\n", "\t", " ", "\x00", "\x1f", "&", "<", "]]>", "😀", "答え"]
)
anything = st.text(st.characters(), max_size=20)
texts = st.one_of(anything, st.lists(awkward, max_size=6).map("".join))


@settings(max_examples=40)
@given(st.lists(texts, min_size=1, max_size=20))
def test_any_texts_survive_the_way_through_a_workbook(folder: Path, cells: list[str]) -> None:
    """No list of awkward texts is complete; and the output of one run is the source of the next."""
    path = write(folder / "out.xlsx", *cells)

    read = [row[1] if len(row) > 1 else "" for row in read_sheet(path).rows()]

    assert read == [cut_for_excel(cell) for cell in cells]


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=20), st.integers(0, 40_000))
def test_any_text_is_cut_to_what_a_cell_holds(text: str, length: int) -> None:
    """One unit too many, or half a character, and Excel offers to repair the file."""
    long = text * (length // len(text) + 1)

    cut = cut_for_excel(long)

    assert utf16_units(cut) <= MAX_CELL
    assert cut_for_excel(cut) == cut
    assert not re.search("[\ud800-\udfff\ufffe\uffff]", cut)


@pytest.mark.parametrize(
    "text", ["<r>x</r>", "<r>a & b</r>", "_x005F_x0041_", "_x0041_x0042_", "_x000D_x000A_", "_x0041\r\n", "_x0041\x1b"]
)
def test_text_that_looks_like_markup_or_an_escape_comes_back(tmp_path: Path, text: str) -> None:
    """XlsxWriter takes the first for markup of its own, and the others for escapes that are made already."""
    assert grid(write(tmp_path / "out.xlsx", text), "S")[1] == ["q", text]


def test_a_failure_in_the_middle_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """A bug or Ctrl-C in the middle of a write must cost nothing: not the old file, not the disk."""
    path = write(tmp_path / "out.xlsx", "old")
    before = path.read_bytes()

    def rows() -> Iterator[list[Cell]]:
        yield ["a"]
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        write_tables(path, [Table("S", ["n"], rows())], CREATED)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [0.1 + 0.2, 1 / 3, 31415926535.897932])
def test_a_number_keeps_all_its_digits(tmp_path: Path, number: float) -> None:
    """A measurement that comes back changed in its last place is a changed measurement."""
    assert grid(write(tmp_path / "out.xlsx", number), "S")[1][1] == number


def test_an_output_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """The person put it there to have the file elsewhere."""
    real = write(tmp_path / "real.xlsx", "old")
    link = tmp_path / "out.xlsx"
    link.symlink_to(real)

    write(link, "new")

    assert link.is_symlink()
    assert grid(real, "S")[1] == ["q", "new"]


@pytest.mark.parametrize("cell", [datetime.date(1868, 1, 3), datetime.datetime(1899, 12, 31, 12, 0)])  # noqa: DTZ001
def test_a_date_before_those_of_excel_is_text(tmp_path: Path, cell: Cell) -> None:
    """Excel would show it as a row of hash signs."""
    assert grid(write(tmp_path / "out.xlsx", cell), "S")[1][1] == str(cell)


@pytest.mark.parametrize(("name", "allowed"), [("a\x01\nb", "a__b"), ("'x:y'", "x_y"), ("History", "History_"), ("''", "Sheet")])
def test_a_sheets_name_is_one_that_excel_opens(tmp_path: Path, name: str, allowed: str) -> None:
    """The sheet of a .csv is called as the file is, and a file may be called anything."""
    write_tables(tmp_path / "out.xlsx", [Table(sheet_name(name), ["question"], [["q"]])], CREATED)

    assert openpyxl.load_workbook(tmp_path / "out.xlsx").sheetnames == [allowed]


def test_a_sheets_name_is_cut_by_the_units_that_excel_counts() -> None:
    """A character beyond the first 65,536 counts twice there; told after the run, it would be too late."""
    assert sheet_name("売上" * 8 + "𠮷" * 15) == "売上" * 8 + "𠮷" * 7
