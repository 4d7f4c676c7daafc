"""--keep-format where it cannot be: one line, and the output of before stays."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from producer.workbook.assembly import write_workbook
from producer.workbook.keeping import check_keeping
from tests.kept import SHAPES, by_hand, by_xlsxwriter, keep, parts, repack
from tests.workbooks import answered, begin_run, save_workbook
from workers.contract.errors import WorkbookError

#: What openpyxl says of extensions it cannot show is no matter here.
pytestmark = pytest.mark.filterwarnings("ignore:::openpyxl")


@pytest.mark.parametrize("content", [b"NO,question\n1,one?\n", b"PK\x03\x04 cut off", b""])
def test_what_is_no_package_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    """Other kinds of files have nothing that could be kept like this."""
    (tmp_path / "in.xlsx").write_bytes(content)

    with pytest.raises(WorkbookError) as raised:
        check_keeping(tmp_path / "in.xlsx")

    assert "--keep-format" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_package_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A Word file, or a binary workbook, is a zip as well."""
    source = by_hand(tmp_path, SHAPES["bare"])
    repack(source, {"[Content_Types].xml": lambda xml: xml.replace(b"sheet.main", b"template.main")})

    with pytest.raises(WorkbookError, match="needs a source"):
        check_keeping(source)


def test_a_signature_that_no_longer_holds_is_said(tmp_path: Path) -> None:
    """The person signed another content; nothing is taken out of the package without a word, nor left in it."""
    source = repack(save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["one?"]]}), {"_xmlsignatures/sig1.xml": lambda _: b"<s/>"})

    with begin_run(tmp_path, source, keep_format=True) as store:
        told = write_workbook(store, tmp_path / "out.xlsx")

    assert parts(tmp_path / "out.xlsx")["_xmlsignatures/sig1.xml"] == b"<s/>"
    assert [line for line in told if "signature" in line and "no longer valid" in line] == told


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    """No spreadsheet program writes them, and one pass cannot mend them. That is said before anything is asked."""
    source = by_hand(
        tmp_path, SHAPES["bare"].replace('r="4"', 'r="6"').replace('r="B4"', 'r="B6"').replace('<row r="6"><c><v>', '<row r="4"><c><v>')
    )

    with pytest.raises(WorkbookError, match="out of order"):
        keep(source, answered(0))
    assert not (tmp_path / "home").exists()


def test_a_failure_leaves_the_output_of_before(tmp_path: Path) -> None:
    """The file that is there may be the only copy of last week's answers."""
    source = by_hand(tmp_path, SHAPES["bare"])
    out = keep(source, answered(0))
    before = out.read_bytes()
    broken = re.sub(r"</sheetData>.*", "", SHAPES["bare"]).replace("<sheetData>", "<data>")
    repack(source, {"xl/worksheets/sheet1.xml": lambda _: broken.encode()})

    with pytest.raises(WorkbookError):
        keep(source, answered(1))

    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "in.xlsx", "out.xlsx"]


def test_a_killed_writer_leaves_the_file_before_as_it_was(tmp_path: Path) -> None:
    """The machine may lose power in the middle of the copy."""
    source = by_xlsxwriter(tmp_path)
    out = keep(source, answered(0), sheet="質問")
    before = out.read_bytes()
    program = """if True:
        import os, pathlib, signal, sys
        from producer.workbook.keeping import Addition, look_at, write_kept
        from producer.workbook.reading import read_sheet
        source, out = map(pathlib.Path, sys.argv[1:])
        sheet = read_sheet(source, "質問")
        def rows():
            for number in range(10):
                yield [str(number)]
            os.kill(os.getpid(), signal.SIGKILL)
        write_kept(source, out, sheet, look_at(source, sheet), [Addition(9, "answer", True)], rows(), [])
    """

    ended = subprocess.run([sys.executable, "-c", program, str(source), str(out)], timeout=60)

    assert ended.returncode == -9
    assert out.read_bytes() == before


def test_a_full_disk_is_one_line_and_leaves_the_output_of_before(tmp_path: Path) -> None:
    """As any place that cannot be written; the answers are in the run store."""
    source = by_xlsxwriter(tmp_path)
    out = keep(source, answered(0), sheet="質問")
    before = out.read_bytes()
    program = """if True:
        import pathlib, resource, signal, sys
        from producer.workbook.keeping import Addition, look_at, write_kept
        from producer.workbook.reading import read_sheet
        from workers.contract.errors import WorkbookError
        source, out = map(pathlib.Path, sys.argv[1:])
        sheet = read_sheet(source, "質問")
        kept = look_at(source, sheet)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        try:
            write_kept(source, out, sheet, kept, [Addition(9, "answer", True)], ([str(n)] for n in range(sheet.height)), [])
        except WorkbookError as error:
            print(error)
    """

    ended = subprocess.run([sys.executable, "-c", program, str(source), str(out)], timeout=60, capture_output=True, text=True)

    assert (ended.returncode, ended.stdout) == (0, f"cannot write {out}: File too large\n"), ended.stderr
    assert out.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
