"""A prompt with holes: ``{column}`` is filled with the row's cell, ``{{`` and ``}}`` are braces, and nothing else means anything."""

import re
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

from workers.contract.errors import UserError

#: A brace that is meant, a hole, a brace too many, or text; whatever stands there is one of them.
_PIECE = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])|(?P<text>[^{}]+)")


class Template(NamedTuple):
    """Texts, and between every two of them the name of a column."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, cells: Sequence[str]) -> str:
        """Return the text with one cell for each of the ``names``; braces in cells are text like any other."""
        return "".join(chain.from_iterable(zip_longest(self.texts, cells, fillvalue="")))


def parse_template(text: str) -> Template:
    """Read a template. Raises UserError for a brace too many, a hole without a name, and a text without holes."""
    texts, names = [""], []
    for piece in _PIECE.finditer(text):
        if piece["stray"]:
            raise UserError(f"--prompt: the {piece['stray']} at character {piece.start() + 1} is alone; write it twice to mean itself")
        if piece["name"] is None:
            texts[-1] += piece["text"] or piece["brace"][0]
        elif piece["name"].strip():
            names.append(piece["name"])
            texts.append("")
        else:
            raise UserError(f"--prompt: the {{}} at character {piece.start() + 1} names no column; write {{{{}}}} to mean the braces")
    if not names:
        raise UserError("--prompt: the text names no column, so every row would ask the same; write {column} where its cell is to stand")
    return Template(tuple(texts), tuple(names))
