"""--keep-format in sheets as other programs write them: no cell moves, and no answer stands in another row."""

import re
from pathlib import Path

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from producer.workbook.keeping import check_keeping
from producer.workbook.limits import cut_for_excel
from producer.workbook.tags import Tag, cut, joined
from tests.kept import MAIN, OURS, SHAPES, by_hand, check_lists, keep, parts, repack
from tests.workbooks import answered, grid, records, save_workbook, tagged
from workers.contract.errors import WorkbookError
from workers.contract.messages import BlankLines

#: What openpyxl says of extensions it cannot show is no matter here.
pytestmark = pytest.mark.filterwarnings("ignore:::openpyxl")


def test_a_shared_formula_is_not_torn(tmp_path: Path) -> None:
    """Its text stands in one cell for all: were that cell overwritten, the others would be broken without a word."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "answer", "sum"], ["one?", 2, 2], ["two?", 2, 2]]})
    change = {b'<c r="B2">': b'<f t="shared" ref="B2:C3" si="0">1+1</f>', b'<c r="C2">': b'<f t="shared" si="0"/>'}

    def share(xml: bytes) -> bytes:
        for cell, formula in change.items():
            xml = xml.replace(cell, cell + formula)
        return xml

    repack(source, {"xl/worksheets/sheet1.xml": share})

    with pytest.raises(WorkbookError, match="B2:C3"):
        keep(source, answered(0), overwrite=True)
    assert not (tmp_path / "out.xlsx").exists()


@pytest.mark.parametrize("name", SHAPES)
def test_sparse_and_unnumbered_rows_get_their_answers(tmp_path: Path, name: str) -> None:
    """Programs leave out numbers, empty rows, styles and dimensions; row 3 is not in the file at all and gets its cells."""
    source = by_hand(tmp_path, SHAPES[name])

    out = keep(source, answered(0, tagged("1")), answered(2, tagged("3")), answered(4, tagged("5")))

    rows = grid(out, "S")
    assert [row[:2] for row in rows] == [["NO", "question"], [1, "one?"], ["", ""], ["", "three?"], ["", ""], [5, "<row>five?</row>"]]
    assert [row[2:5] for row in rows] == [
        OURS[:3],
        ["1", "why", "answered"],
        ["", "", "skipped"],
        ["3", "why", "answered"],
        ["", "", "skipped"],
        ["5", "why", "answered"],
    ]
    assert [[cell.value for cell in row] for row in openpyxl.load_workbook(out)["S"]["C2:C6"]] == [["1"], [None], ["3"], [None], ["5"]]
    check_lists(out)


def test_unnumbered_cells_stay_where_they_are_beside_a_column_that_is_emptied(tmp_path: Path) -> None:
    """They count from the cell before them: were that one gone, they would move into its column."""
    cells = (
        "<row><c t='inlineStr'><is><t>{}</t></is></c><c t='inlineStr'><is><t>{}</t></is></c><c t='inlineStr'><is><t>{}</t></is></c></row>"
    )
    rows = cells.format("question", "answer", "memo") + cells.format("one?", "old", "m") + cells.format("two?", "old", "n")
    source = by_hand(tmp_path, f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>')

    out = keep(source, answered(1, tagged("new")), overwrite=True)

    assert [row[:3] for row in grid(out, "S")] == [["question", "answer", "memo"], ["one?", "", "m"], ["two?", "new", "n"]]
    assert [[c.value for c in row[:3]] for row in openpyxl.load_workbook(out)["S"].iter_rows(min_row=2)] == [
        ["one?", None, "m"],
        ["two?", "new", "n"],
    ]


def test_a_strict_workbook_stays_strict(tmp_path: Path) -> None:
    """Its namespaces are other ones, and the new sheets must be of the same kind."""
    namespace, relations = "http://purl.oclc.org/ooxml/spreadsheetml/main", "http://purl.oclc.org/ooxml/officeDocument"
    source = by_hand(tmp_path, SHAPES["bare"].replace(MAIN, namespace), namespace, relations)

    out = keep(source, answered(0))

    assert grid(out, "S")[1][:3] == [1, "one?", "42"]
    assert records(out, "Run")[0]["what"] == "run"
    assert MAIN not in "".join(content.decode() for content in parts(out).values())
    check_lists(out)


TEXTS = [
    "=1+1",
    "  spaces  ",
    "\n\nlines\r\n",
    "<b>&amp;</b> ]]>",
    "\x00\x1b\x1f",
    "_x0041_",
    "_x000D_\r",
    "\ud83d half",
    "😀" * 20_000,
    "x" * 40_000,
]


def test_any_text_of_a_model_stands_there_as_in_a_fresh_workbook(tmp_path: Path) -> None:
    """One character that XML cannot hold, and Excel offers to repair the person's own file."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], *([str(n)] for n in range(len(TEXTS)))]})

    out = keep(source, *(answered(n, text) for n, text in enumerate(TEXTS)), blank_lines=BlankLines.KEEP)

    assert [row[1] for row in grid(out, "S")[1:]] == [cut_for_excel(text) for text in TEXTS]
    cells = [row[1].value for row in openpyxl.load_workbook(out)["S"].iter_rows(min_row=2)]
    for value, text in zip(cells, TEXTS, strict=True):  # openpyxl reads no escapes of control characters, which XML cannot hold otherwise
        assert cut_for_excel(text) in (value, unescape(str(value)))


def test_answers_go_beside_merged_cells_and_not_under_them(tmp_path: Path) -> None:
    """Questions that are merged over several columns are usual in Japanese sheets; under them nobody would see an answer."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row, text in enumerate(["質問", "富士山の高さは？", "日本の首都は？"], start=1):
        sheet.cell(row, 1, text)
        sheet.merge_cells(start_row=row, end_row=row, start_column=1, end_column=10)
    book.save(tmp_path / "in.xlsx")

    out = keep(tmp_path / "in.xlsx", answered(0), answered(1))

    row = next(openpyxl.load_workbook(out).worksheets[0].iter_rows(min_row=2, max_row=2, values_only=True))
    assert row[0] == "富士山の高さは？"
    assert row[1:10] == (None,) * 9
    assert row[10] == "42"


def test_a_column_of_cells_that_are_merged_downwards_is_not_free(tmp_path: Path) -> None:
    """Of those only the first would show its answer."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["question", "answer"], ["a"], ["b"], ["c"]):
        sheet.append(row)
    sheet.merge_cells("B2:B4")
    book.save(tmp_path / "in.xlsx")

    out = keep(tmp_path / "in.xlsx", answered(0), answered(1), answered(2))

    rows = list(openpyxl.load_workbook(out).worksheets[0].iter_rows(values_only=True))
    assert rows[0][:3] == ("question", "answer", "answer (phi-4)")
    assert [row[2] for row in rows[1:]] == ["42"] * 3


def test_an_array_formula_is_not_torn(tmp_path: Path) -> None:
    """It stands in one cell and fills its neighbours whenever it is calculated, over whatever stands there."""
    with xlsxwriter.Workbook(str(tmp_path / "in.xlsx")) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["question", "length", "answer"])
        sheet.write_column(1, 0, ["a", "b"])
        sheet.write_array_formula(1, 1, 2, 2, "{=LEN(A2:A3)*{1,2}}")

    with pytest.raises(WorkbookError, match="cannot replace a formula that B2:C3 share"):
        keep(tmp_path / "in.xlsx", answered(0), overwrite=True)
    beside = keep(tmp_path / "in.xlsx", answered(0))

    assert next(openpyxl.load_workbook(beside).worksheets[0].iter_rows(values_only=True))[3] == "answer (phi-4)"


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["<row r='1'>", "</row>", "<c a='>'/>", "<!-- <c/> -->", "<cc/>", "<![CDATA[<c>]]>", "text", "<?p <c/>?>", "é"])
    ),
    st.integers(1, 9),
)
def test_pieces_joined_are_the_file_wherever_it_is_cut(parts_of_it: list[str], size: int) -> None:
    """A tag may lie across the border of two chunks; no byte may be lost there, and no tag missed."""
    data = "".join(parts_of_it).encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]

    pieces = list(cut(chunks, "", ["row", "c"]))

    assert joined(pieces) == data
    assert [p.raw.decode() for p in pieces if isinstance(p, Tag)] == [
        p for p in parts_of_it if p in ("<row r='1'>", "</row>", "<c a='>'/>")
    ]


def test_a_workbook_whose_type_is_that_of_every_xml_part_is_one(tmp_path: Path) -> None:
    """The Open XML SDK writes the workbook's content type as the default of `.xml`."""
    source = by_hand(tmp_path, SHAPES["bare"])
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"

    def default(xml: bytes) -> bytes:
        xml = re.sub(rb'<Override PartName="/xl/workbook.xml"[^>]*/>', b"", xml)
        return xml.replace(b'ContentType="application/xml"', f'ContentType="{kind}"'.encode())

    repack(source, {"[Content_Types].xml": default})
    check_keeping(source, tmp_path / "out.xlsx")

    assert grid(keep(source, answered(0)), "S")[1][:3] == [1, "one?", "42"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("keeping")


cells_of_a_row = st.lists(
    st.sampled_from(["", "<c{r}/>", '<c{r} t="inlineStr"><is><t>é&lt;</t></is></c>', "<c{r}><v>2</v></c>"]), max_size=5
)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(cells_of_a_row, st.booleans(), st.booleans(), st.booleans()), max_size=8),
    stored=st.sets(st.integers(0, 9)),
    top=st.integers(1, 3),
)
def test_any_sheet_gets_its_answers_and_keeps_its_cells(
    folder: Path, rows: list[tuple[list[str], bool, bool, bool]], stored: set[int], top: int
) -> None:
    """Numbered or not, sparse or not, formatted and empty: no other cell moves, and no answer stands in another row."""
    xml = f'<row r="{top}"><c r="A{top}" t="inlineStr"><is><t>question</t></is></c></row>'
    for number, (cells, numbered, there, separate) in enumerate(rows, start=top + 1):
        if not there and not separate:
            continue  # a row that is not in the file
        content = f'<c r="A{number}" t="inlineStr"><is><t>q{number}</t></is></c>'
        content += "".join(cell.format(r=f' r="{"BCDEF"[place]}{number}"' if numbered else "") for place, cell in enumerate(cells))
        xml += f'<row r="{number}" spans="1:9">{content}</row>' if there else f'<row r="{number}"/>'
    last = top + len(rows) + 1
    xml += f'<row r="{last}"><c t="inlineStr"><is><t>last?</t></is></c></row>'
    source = by_hand(folder, f'<worksheet xmlns="{MAIN}"><sheetData>{xml}</sheetData></worksheet>')
    before = grid(source, "S")
    asked = [row for row in sorted(stored) if row <= len(rows) and before[top + row][0]]

    out = keep(source, *(answered(row, tagged(f"answer {row}")) for row in asked), fresh=(folder / "home").exists())

    after = grid(out, "S")
    width = len(before[0])
    place = after[top - 1].index("answer")
    assert [row[:width] for row in after] == before
    assert [row[place] for row in after[top:]] == [f"answer {row}" if row in asked else "" for row in range(len(rows) + 1)]
    check_lists(out)
