"""What a workbook of Excel can hold, and names and texts as they fit into one."""

import re

#: Excel's limits: UTF-16 units in a cell, rows of a sheet with its header, columns, UTF-16 units in a sheet's name.
MAX_CELL = 32_767
MAX_ROWS = 1_048_576
MAX_COLUMNS = 16_384
MAX_SHEET_NAME = 31
#: Ends what a cell could not hold all of.
CUT_FOR_EXCEL = "… [cut for Excel; the whole text is in the run store]"
_NO_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")


def sheet_name(name: str) -> str:
    """Return a name as Excel allows it: other programs write longer ones, and other characters."""
    cleaned = re.sub(r"[\[\]:*?/\\\x00-\x1f\x7f\ufffe\uffff]", "_", name).strip("'")
    cleaned = cleaned.encode("utf-16-le", "surrogatepass")[: 2 * MAX_SHEET_NAME].decode("utf-16-le", "ignore").strip("'")
    return f"{cleaned}_" if cleaned.casefold() == "history" else cleaned or "Sheet"  # Excel keeps that name for itself


def cut_for_excel(text: str) -> str:
    """Return the text as one cell can hold it: at most 32,767 UTF-16 units, nothing that XML cannot carry.

    Control characters stay: they are written in Excel's own escapes. What no XML can hold becomes U+FFFD.
    """
    if not _is_xml(text):
        text = _NO_XML.sub("\ufffd", text)
    if 2 * len(text) <= MAX_CELL:
        return text
    units = text.encode("utf-16-le")
    if len(units) <= 2 * MAX_CELL:
        return text
    return units[: 2 * (MAX_CELL - len(CUT_FOR_EXCEL))].decode("utf-16-le", errors="ignore") + CUT_FOR_EXCEL


def _is_xml(text: str) -> bool:
    """Say whether XML can hold all characters; much faster than a regular expression, which a workbook of long answers feels."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\ufffe" not in text and "\uffff" not in text
