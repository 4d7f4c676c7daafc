"""The source's own package with our cells in it: everything else of the workbook stays as it is."""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from workers.contract.errors import WorkbookError

from .cell_xml import cell_xml
from .kept_package import KeptPackage, Parts, SheetPart, opened_package
from .limits import MAX_COLUMNS
from .patching import NewColumn, Patch, patch_sheet
from .reading import Cell, Sheet
from .registering import with_new_sheets
from .replacing import replacing
from .styling import Styles, with_our_styles
from .surveying import Survey, refuse_to_tear_formulas, survey
from .tags import root_of
from .widths import columns_for
from .writing import Table

_SIGNED = "the source has a digital signature; the output has it too, but it is no longer valid"


class Kept(NamedTuple):
    """A workbook that is to keep its format: what has to be known of it before cells are put into it."""

    survey: Survey
    #: Of all its sheets, also hidden ones.
    names: tuple[str, ...]


class Addition(NamedTuple):
    """One of our columns: where it goes, and what its header is unless the sheet has one."""

    place: int
    header: str | None
    wide: bool


def check_keeping(source: Path, out: Path | None = None) -> None:
    """Check that a source can keep its format, and that the output is named like it. Raises WorkbookError."""
    with _explaining_damage(source), opened_package(source) as package:
        suffix = package.suffix
        if out is not None and out.suffix.lower() != suffix:
            raise WorkbookError(f"the output {out} must end in {suffix}, as what the source is: --keep-format keeps its kind")


def look_at(source: Path, sheet: Sheet) -> Kept:
    """Look through a workbook that is to keep its format. Raises WorkbookError."""
    with _explaining_damage(source), opened_package(source) as package:
        part = _part_of(package, sheet.name).part
        found = survey(package.chunks(part), sheet.header_row, sheet.height, part)
        return Kept(found, tuple(known.name for known in package.sheets))


def rehearse(source: Path, sheet: Sheet, kept: Kept, columns: Sequence[Addition]) -> None:
    """Do all that writing does, but write nothing. Raises WorkbookError where writing would, but for what happens to a disk."""
    with _explaining_damage(source), opened_package(source) as package:
        changes = _changes(package, sheet, kept, columns, [[""] * len(columns)] * sheet.height, [Table("Run", ["what"], [])])
        for part in changes.replaced.values():
            for _ in part:
                pass


def write_kept(
    source: Path, out: Path, sheet: Sheet, kept: Kept, columns: Sequence[Addition], rows: Iterable[Sequence[Cell]], tables: Sequence[Table]
) -> list[str]:
    """Write the source again with new columns beside its questions and new sheets at its end; return what the user should be told.

    ``rows`` has a value for each of ``columns``, for every row of the sheet. Raises WorkbookError.
    """
    with opened_package(source) as package:
        changes = _changes(package, sheet, kept, columns, rows, tables)
        with replacing(out) as work:
            package.copy(work, changes.replaced, changes.added, changes.dropped)
        return [_SIGNED] if package.is_signed() else []


@contextmanager
def _explaining_damage(source: Path) -> Iterator[None]:
    """Say in plain words what of a package cannot be, such as numbers that are none. Here, where nothing but the package can be wrong."""
    try:
        yield
    except (ValueError, LookupError, OverflowError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WorkbookError(
            f"--keep-format: {source} is a damaged workbook ({what}); open it in a spreadsheet program and save it anew"
        ) from error


class _Changes(NamedTuple):
    """What becomes of the parts of a package."""

    replaced: Parts
    added: Parts
    dropped: Sequence[str]


def _changes(
    package: KeptPackage, sheet: Sheet, kept: Kept, columns: Sequence[Addition], rows: Iterable[Sequence[Cell]], tables: Sequence[Table]
) -> _Changes:
    filled = [column.place for column in columns if column.header is None]
    refuse_to_tear_formulas(kept.survey, filled, sheet.height)
    if max(column.place for column in columns) >= MAX_COLUMNS:
        raise WorkbookError(f"sheet {sheet.name!r} has no room for the answers beside its columns; leave out --keep-format")
    known = _part_of(package, sheet.name)
    styles_part = package.related("styles")
    replaced: dict[str, Iterable[bytes]] = {}
    styles = Styles()
    if styles_part is not None:
        xml, styles = with_our_styles(package.read(styles_part), styles_part)
        replaced[styles_part] = [xml]
    new = [NewColumn(c.place, c.header, c.wide, styles.wrapped if c.wide else styles.top) for c in columns]
    patch = Patch(new, kept.survey.header_row, sheet.height, rows)
    replaced[known.part] = patch_sheet(package.chunks(known.part), patch, known.part)
    parts = _new_parts(package, known, tables)
    dropped = _order_of_calculation(package, kept.survey, filled)
    replaced |= with_new_sheets(package, parts, dropped)
    root = root_of(next(package.chunks(known.part), b""), known.part)
    added = {part.part: _table_xml(table, root.namespace, styles) for part, table in zip(parts, tables, strict=True)}
    return _Changes(replaced, added, dropped)


def _part_of(package: KeptPackage, name: str) -> SheetPart:
    for sheet in package.sheets:
        if sheet.name == name:
            return sheet
    raise WorkbookError(f"--keep-format: the workbook's package has no sheet {name!r}")


def _new_parts(package: KeptPackage, like: SheetPart, tables: Sequence[Table]) -> list[SheetPart]:
    folder = posixpath.join(posixpath.dirname(package.workbook), "worksheets")
    parts: list[SheetPart] = []
    for table in tables:
        part = package.new_part(folder, [known.part for known in parts])
        parts.append(SheetPart(table.name, part, like.relationship_type))
    return parts


def _order_of_calculation(package: KeptPackage, found: Survey, filled: Sequence[int]) -> list[str]:
    """Return the part that lists the cells with formulas, if some of them are replaced: Excel makes it anew, and repairs a wrong one."""
    part = package.related("calcChain")
    return [part] if part is not None and not found.formulas.isdisjoint(filled) else []


def _table_xml(table: Table, namespace: str, styles: Styles) -> Iterator[bytes]:
    """Yield a sheet of ours."""
    columns, rows = columns_for(table.headers, table.rows, table.wide)
    widths = "".join(
        f'<col min="{n}" max="{n}" width="{width}.7109375" customWidth="1"/>' for n, width in enumerate(columns.widths, start=1)
    )
    yield (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<worksheet xmlns="{namespace}">'
        '<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView>'
        f"</sheetViews><cols>{widths}</cols><sheetData>"
    ).encode()
    yield _row_xml(1, table.headers, [styles.bold] * len(table.headers))
    kinds = [styles.wrapped if column in columns.wrapped else styles.top for column in range(len(table.headers))]
    for number, row in enumerate(rows, start=2):
        yield _row_xml(number, row, kinds)
    yield b"</sheetData></worksheet>"


def _row_xml(number: int, row: Sequence[Cell], styles: Sequence[str | None]) -> bytes:
    cells = [cell_xml(column, number, value, styles[column] if value != "" else None, "") for column, value in enumerate(row)]
    return f'<row r="{number}">{"".join(cells)}</row>'.encode()
