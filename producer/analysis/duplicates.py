"""Rows that say the same: equal questions, and equal answers to different questions. On disk, so that a million rows take no memory."""

import hashlib
import sqlite3
from typing import Any, NamedTuple

from .measures import normalised


class Duplicates(NamedTuple):
    """What is there more than once."""

    #: Questions that stand in more than one row, and the rows that have one of them.
    questions: int
    rows_of_questions: int
    #: Answers that several different questions got, and the rows that have one of them.
    answers: int
    rows_of_answers: int
    #: The first rows of the answer that most questions got, from 0.
    commonest: tuple[int, ...]
    #: Rows that were looked at: those with an answer.
    of: int

    def told(self) -> dict[str, Any]:
        """Return them for programs."""
        return self._asdict() | {"commonest": list(self.commonest)}


class DuplicateFinder:
    """Takes rows one by one and finds equal ones; texts are compared as ``normalised`` says."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")  # a temporary file, gone with the connection
        self._db.execute("CREATE TABLE replies (row INTEGER, question BLOB, answer BLOB)")

    def add(self, row: int, question: str, answer: str) -> None:
        """Take a row; one with an empty answer is passed over."""
        if answer.strip():
            self._db.execute("INSERT INTO replies VALUES (?, ?, ?)", (row, _key(question), _key(answer)))

    def found(self) -> Duplicates:
        """Return what is there more than once."""
        questions = self._count("SELECT count(DISTINCT row) AS rows FROM replies GROUP BY question HAVING count(DISTINCT row) > 1")
        answers = self._count("SELECT count(DISTINCT row) AS rows FROM replies GROUP BY answer HAVING count(DISTINCT question) > 1")
        commonest = (
            "SELECT DISTINCT row FROM replies WHERE answer ="
            " (SELECT answer FROM replies GROUP BY answer HAVING count(DISTINCT question) > 1"
            " ORDER BY count(DISTINCT question) DESC LIMIT 1)"
            " ORDER BY row LIMIT 5"
        )
        (of,) = self._db.execute("SELECT count(DISTINCT row) FROM replies").fetchone()
        return Duplicates(*questions, *answers, tuple(row for (row,) in self._db.execute(commonest)), of)

    def close(self) -> None:
        """Let go of the rows."""
        self._db.close()

    def _count(self, groups: str) -> tuple[int, int]:
        found: tuple[int, int] = self._db.execute(f"SELECT count(*), coalesce(sum(rows), 0) FROM ({groups})").fetchone()  # noqa: S608
        return found


def _key(text: str) -> bytes:
    return hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=12).digest()
