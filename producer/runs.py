"""The run store: one SQLite file per run, with a copy of the source. The record; Redis is transport, the workbook a view."""

import contextlib
import datetime
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from workers.contract.errors import UserError
from workers.contract.messages import Answer, Completion, ModelIdentity, Outcome
from workers.contract.replies import read_reply

from .manifest import Manifest, Recent, Reopened, Spent, Tally
from .run_files import connect, explaining, path_of, take_lock
from .source_copy import SOURCE_TABLE, FileCopy, put_copy, replace_copy, unpacked

SCHEMA_VERSION = 4

_SCHEMA = """
CREATE TABLE manifest (id INTEGER PRIMARY KEY CHECK (id = 0), json TEXT NOT NULL);
CREATE TABLE models (fingerprint TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE answers (
    row INTEGER PRIMARY KEY, generation INTEGER NOT NULL, outcome TEXT NOT NULL, error TEXT, prompt_tokens INTEGER,
    worker TEXT NOT NULL, fingerprint TEXT NOT NULL, seconds REAL NOT NULL, gpu_seconds REAL NOT NULL, stored_at TEXT NOT NULL,
    question TEXT NOT NULL, reused_from TEXT NOT NULL
);
-- How often a row had been asked before its answer came; absent if once.
CREATE TABLE asked_before (row INTEGER PRIMARY KEY, times INTEGER NOT NULL);
-- Rows that are asked anew; until their new answer comes they keep the old one. "reseed" is 0 where the seed stays.
CREATE TABLE reopened (row INTEGER PRIMARY KEY, reseed INTEGER NOT NULL, temperature REAL);
CREATE TABLE completions (
    row INTEGER NOT NULL, sample INTEGER NOT NULL, text BLOB NOT NULL, outcome TEXT NOT NULL, finish_reason TEXT NOT NULL,
    output_tokens INTEGER NOT NULL, PRIMARY KEY (row, sample)
) WITHOUT ROWID;
"""

#: Outcomes of rows that have a reply, which another seed may better.
_REPLIED = (Outcome.ANSWERED, Outcome.MALFORMED, Outcome.TRUNCATED)


class StoredRow(NamedTuple):
    """What the store holds of one row."""

    answer: Answer
    stored_at: str
    #: How often the row was asked, each time until it came to an end: once, and once more for every ``retry``.
    attempts: int


class RunStore:
    """One run on disk. Opened by one process at a time, read by any number."""

    def __init__(self, path: Path, manifest: Manifest, connection: sqlite3.Connection, lock: int | None) -> None:
        self.path, self.manifest, self._db, self._lock = path, manifest, connection, lock

    @classmethod
    def create(cls, home: Path, manifest: Manifest, source: Path, copy: FileCopy | None = None) -> Self:
        """Begin a run, or replace it. Raises UserError if another process is at work on it, or the home cannot be written."""
        path = path_of(home, manifest.run_id)
        copy = copy or FileCopy(source)
        with explaining(path), contextlib.ExitStack() as undo:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path)
            undo.callback(os.close, lock)
            work = path.with_suffix(".new")
            work.unlink(missing_ok=True)
            db = connect(work)
            db.executescript(f"PRAGMA user_version = {SCHEMA_VERSION};{SOURCE_TABLE};{_SCHEMA}")
            put_copy(db, source.name, copy)
            db.execute("INSERT INTO manifest VALUES (0, ?)", (manifest.model_dump_json(),))
            db.commit()
            db.close()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            work.replace(path)
            store = cls(path, manifest, connect(path), lock)
            undo.pop_all()
            return store

    @classmethod
    def open(cls, home: Path, run_id: str, *, writing: bool = True) -> Self | None:
        """Open a run that exists; None if it does not. Raises UserError if another process is writing it and we want to."""
        path = path_of(home, run_id)
        if not path.exists():
            return None
        with explaining(path), contextlib.ExitStack() as undo:
            lock = take_lock(path) if writing else None
            if lock is not None:
                undo.callback(os.close, lock)
            db = undo.enter_context(contextlib.closing(connect(path)))
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise UserError(f"the run store {path} has schema {version}, this Kotae knows {SCHEMA_VERSION}; use the Kotae that made it")
            manifest = Manifest.model_validate_json(db.execute("SELECT json FROM manifest").fetchone()[0])
            undo.pop_all()
            return cls(path, manifest, db, lock)

    def close(self) -> None:
        """Let go of the run."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, **changes: Any) -> None:
        """Change the manifest; a new reply format reads all stored texts again."""
        changed = self.manifest.model_copy(update=changes)
        if changed == self.manifest:
            return
        reading = (changed.reply_format, changed.blank_lines)
        reread = reading != (self.manifest.reply_format, self.manifest.blank_lines)
        with explaining(self.path), self._db:
            self._db.execute("UPDATE manifest SET json = ?", (changed.model_dump_json(),))
            self.manifest = changed
            if reread:
                rows = [row for row in self._rows(changed.rows) if row.answer.completions]
                self._db.executemany("UPDATE answers SET outcome = ? WHERE row = ?", [(r.answer.outcome, r.answer.row) for r in rows])
                self._db.executemany(
                    "UPDATE completions SET outcome = ? WHERE row = ? AND sample = ?",
                    [(c.outcome, r.answer.row, k) for r in rows for k, c in enumerate(r.answer.completions)],
                )

    def replace_source(self, source: Path, copy: FileCopy | None = None) -> None:
        """Keep this copy of the source instead: the same questions, perhaps beside other columns."""
        copy = copy or FileCopy(source)
        with explaining(self.path), self._db:
            replace_copy(self._db, source.name, copy)

    def store(self, answers: Iterable[Answer], key_of: Callable[[int], str] = lambda _: "", reused_from: str = "") -> None:
        """Store answers in one transaction; a row that is there already, in this generation or a later one, stays as it is.

        ``key_of`` gives the key by which a later run finds the same question again (see ``questions.py``).
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        with explaining(self.path), self._db:
            for answer in answers:
                known = self._db.execute("SELECT generation, outcome FROM answers WHERE row = ?", (answer.row,)).fetchone()
                if known is None or known[0] < answer.generation:
                    if known is not None and known[1] != Outcome.CANCELLED:
                        self._db.execute(
                            "INSERT INTO asked_before VALUES (?, 1) ON CONFLICT (row) DO UPDATE SET times = times + 1", (answer.row,)
                        )
                    self._store_one(answer, now, key_of(answer.row), reused_from)

    def _store_one(self, answer: Answer, now: str, key: str, reused_from: str) -> None:
        # Read as the manifest says by now: the worker may have been asked before the reply format was changed.
        completions = [self._completion(c.text, c.finish_reason, c.output_tokens) for c in answer.completions]
        outcome = _best(completions) if completions else answer.outcome
        error = _plain(answer.error) if answer.error is not None else None
        told = (answer.prompt_tokens, answer.worker, answer.fingerprint, answer.seconds, answer.gpu_seconds)
        record = (answer.row, answer.generation, outcome, error, *told)
        self._db.execute("DELETE FROM completions WHERE row = ?", (answer.row,))
        self._db.execute("DELETE FROM reopened WHERE row = ?", (answer.row,))
        self._db.execute(f"INSERT OR REPLACE INTO answers VALUES ({_places(12)})", (*record, now, key, reused_from))
        self._db.executemany(
            "INSERT INTO completions VALUES (?, ?, ?, ?, ?, ?)",
            [(answer.row, k, _to_blob(c.text), c.outcome, c.finish_reason, c.output_tokens) for k, c in enumerate(answer.completions)],
        )

    def reopen(
        self, outcomes: Collection[Outcome], temperature: float | None = None, rows: Collection[int] | None = None
    ) -> dict[Outcome, int]:
        """Have the rows of these outcomes, or those among ``rows``, asked anew, in a new generation; return how many there are of each.

        Rows that had a reply get another seed, the others what they were to have the first time.
        """
        chosen = f"FROM answers WHERE row < ? AND outcome IN ({_places(len(outcomes))}) AND row NOT IN (SELECT row FROM reopened)"
        given: tuple[Any, ...] = (self.manifest.asked_rows, *outcomes)
        if rows is not None:
            chosen, given = f"{chosen} AND row IN (SELECT value FROM json_each(?))", (*given, json.dumps(sorted(rows)))
        generation = self.manifest.generation + 1
        with explaining(self.path), self._db:
            counts = dict(self._db.execute(f"SELECT outcome, count(*) {chosen} GROUP BY outcome", given))
            self._db.execute(
                f"INSERT INTO reopened SELECT row, CASE WHEN outcome IN ({_places(len(_REPLIED))}) THEN ? ELSE 0 END, ? {chosen}",
                (*_REPLIED, generation, temperature, *given),
            )
        if counts:
            self.update(generation=generation)
        return {Outcome(outcome): count for outcome, count in counts.items()}

    def reopened(self) -> dict[int, Reopened]:
        """Return the rows that are asked anew and have no new answer yet."""
        return {row: Reopened(*rest) for row, *rest in self._db.execute("SELECT row, reseed, temperature FROM reopened")}

    def store_model(self, fingerprint: str, identity: ModelIdentity) -> None:
        """Keep which model a fingerprint stands for."""
        with explaining(self.path), self._db:
            self._db.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (fingerprint, identity.model_dump_json()))

    def models(self) -> dict[str, ModelIdentity]:
        """Return the models that answered, by fingerprint."""
        return {key: ModelIdentity.model_validate_json(text) for key, text in self._db.execute("SELECT * FROM models ORDER BY fingerprint")}

    def fingerprints(self) -> list[str]:
        """Return the fingerprints of all models that answered any row."""
        return [key for (key,) in self._db.execute("SELECT DISTINCT fingerprint FROM answers WHERE fingerprint != '' ORDER BY 1")]

    def settled_rows(self) -> set[int]:
        """Return the numbers of all rows for which nothing is left to do."""
        return {row for (row,) in self._db.execute("SELECT row FROM answers WHERE row NOT IN (SELECT row FROM reopened)")}

    def answered_questions(self) -> Iterator[tuple[int, str, str]]:
        """Yield row, key of the question and fingerprint of the model, for every row that has a reply."""
        query = f"SELECT row, question, fingerprint FROM answers WHERE outcome IN ({_places(len(_REPLIED))}) AND question != ''"
        yield from self._db.execute(query, _REPLIED)

    def reused(self) -> dict[str, int]:
        """Return how many answers were taken from which earlier run."""
        return dict(self._db.execute("SELECT reused_from, count(*) FROM answers WHERE reused_from != '' GROUP BY 1 ORDER BY 1"))

    def is_finished(self) -> bool:
        """Say whether every row this command is about is settled."""
        return self.settled_rows().issuperset(range(self.manifest.asked_rows))

    def answers(self, before: int | None = None, outcomes: Collection[Outcome] = tuple(Outcome)) -> Iterator[StoredRow]:
        """Yield what is stored of the rows this command is about, or of those ``before`` a row, in row order, read as the manifest says."""
        return self._rows(self.manifest.asked_rows if before is None else before, outcomes)

    def tally(self) -> Tally:
        """Count what is settled of the rows this command is about."""
        rows = self.manifest.asked_rows
        settled = "SELECT outcome, count(*) FROM answers WHERE row < ? AND row NOT IN (SELECT row FROM reopened) GROUP BY outcome"
        outcomes = self._db.execute(settled, (rows,)).fetchall()
        (prompt_tokens,) = self._db.execute("SELECT coalesce(sum(prompt_tokens), 0) FROM answers WHERE row < ?", (rows,)).fetchone()
        (output_tokens,) = self._db.execute("SELECT coalesce(sum(output_tokens), 0) FROM completions WHERE row < ?", (rows,)).fetchone()
        return Tally(rows, {Outcome(outcome): count for outcome, count in outcomes}, prompt_tokens, output_tokens)

    def spent(self) -> Spent:
        """Return what this run's own answers cost; those that were reused were paid for elsewhere."""
        query = "SELECT count(*), coalesce(sum(gpu_seconds), 0) FROM answers WHERE row < ? AND worker != '' AND reused_from = ''"
        return Spent(*self._db.execute(query, (self.manifest.asked_rows,)).fetchone())

    def tokens_by_model(self) -> dict[str, tuple[int, int]]:
        """Return the tokens of prompts and of replies that each model took for this run, by fingerprint; none for what was reused."""
        query = (
            "SELECT fingerprint, coalesce(sum(prompt_tokens), 0), coalesce(sum(written), 0) FROM answers"
            " LEFT JOIN (SELECT row, sum(output_tokens) AS written FROM completions GROUP BY row) USING (row)"
            " WHERE row < ? AND fingerprint != '' AND reused_from = '' GROUP BY fingerprint"
        )
        return {key: (prompts, replies) for key, prompts, replies in self._db.execute(query, (self.manifest.asked_rows,))}

    def recent(self, since: str) -> Recent:
        """Return what workers answered that was stored after a moment in ISO 8601, beyond the first transaction after it."""
        query = (
            "WITH ours AS (SELECT row, stored_at FROM answers WHERE worker != '' AND reused_from = '' AND stored_at > ?),"
            " later AS (SELECT row FROM ours WHERE stored_at > (SELECT min(stored_at) FROM ours))"
            " SELECT (SELECT min(stored_at) FROM ours), count(DISTINCT row), coalesce(sum(output_tokens), 0)"
            " FROM later LEFT JOIN completions USING (row)"
        )
        return Recent(*self._db.execute(query, (since,)).fetchone())

    def damage(self) -> str:
        """Return what SQLite finds wrong with the file; empty if nothing is."""
        with explaining(self.path):
            said: str = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        return "" if said == "ok" else said

    def first_answered_at(self) -> str | None:
        """Return when the first answer of a worker was stored for this run, in ISO 8601."""
        query = "SELECT min(stored_at) FROM answers WHERE worker != '' AND reused_from = ''"
        first: str | None = self._db.execute(query).fetchone()[0]
        return first

    def last_stored_at(self) -> str | None:
        """Return when the last answer was stored, in ISO 8601."""
        last: str | None = self._db.execute("SELECT max(stored_at) FROM answers").fetchone()[0]
        return last

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """See the run as it is now for a while, whatever another process stores meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.rollback()

    def source(self) -> contextlib.AbstractContextManager[Path]:
        """Give the copy of the source as a file of the source's own name."""
        return unpacked(self._db)

    def _rows(self, before: int, outcomes: Collection[Outcome] = tuple(Outcome)) -> Iterator[StoredRow]:
        query = (
            "SELECT answers.row, generation, answers.outcome, error, prompt_tokens, worker, fingerprint, seconds, gpu_seconds, stored_at,"
            " coalesce(times, 0), sample, text, finish_reason, output_tokens"
            " FROM answers LEFT JOIN completions USING (row) LEFT JOIN asked_before USING (row)"
            f" WHERE answers.row < ? AND answers.outcome IN ({_places(len(outcomes))}) ORDER BY answers.row, sample"
        )
        head: tuple[Any, ...] | None = None
        completions: list[Completion] = []
        for record in self._db.execute(query, (before, *outcomes)):
            if head is not None and head[0] != record[0]:
                yield self._stored_row(head, completions)
                completions = []
            head = record
            if record[11] is not None:
                completions.append(self._completion(_from_blob(record[12]), record[13], record[14]))
        if head is not None:
            yield self._stored_row(head, completions)

    def _completion(self, text: str, finish_reason: str, output_tokens: int) -> Completion:
        reading = read_reply(text, finish_reason, self.manifest.reply_format, self.manifest.blank_lines)
        return Completion(text=text, **reading._asdict(), finish_reason=finish_reason, output_tokens=output_tokens)

    def _stored_row(self, record: tuple[Any, ...], completions: list[Completion]) -> StoredRow:
        row, generation, outcome, error, prompt_tokens, worker, fingerprint, seconds, gpu_seconds, stored_at, before = record[:11]
        if completions:
            outcome = _best(completions)
        answer = Answer(
            run_id=self.manifest.run_id,
            row=row,
            generation=generation,
            outcome=outcome,
            completions=tuple(completions),
            error=error,
            prompt_tokens=prompt_tokens,
            worker=worker,
            fingerprint=fingerprint,
            seconds=seconds,
            gpu_seconds=gpu_seconds,
        )
        return StoredRow(answer, stored_at, before + 1)


def _places(count: int) -> str:
    return ", ".join("?" * count)


def _best(completions: list[Completion]) -> Outcome:
    return min((completion.outcome for completion in completions), key=list(Outcome).index)


def _plain(text: str) -> str:
    """Return a text that SQLite can hold."""
    return text.encode("utf-8", "replace").decode()


def list_runs(home: Path) -> list[str]:
    """Return the ids of all runs of a home, the newest last."""
    return [path.stem for path in sorted((home / "runs").glob("*.sqlite"), key=_last_change)]


def find_run(home: Path, name: str) -> str:
    """Return the id of the run that ``name`` begins, or of the newest for ``last``. Raises UserError."""
    runs = list_runs(home)
    if not name:
        raise UserError("name a run by its id or its beginning, or 'last' for the newest")
    if name == "last" and runs:
        return runs[-1]
    found = [run_id for run_id in runs if run_id.startswith(name)]
    if len(found) != 1:
        known = ", ".join(runs[-5:]) or "none"
        raise UserError(f"{len(found) or 'no'} runs of {home} begin with {name!r}; the newest are: {known}")
    return found[0]


def delete_run(home: Path, run_id: str) -> None:
    """Remove a run from a home. Raises UserError while another process is at work on it."""
    path = path_of(home, run_id)
    if not path.exists():
        return
    with explaining(path):
        lock = take_lock(path)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.close(lock)  # the lock file stays: whoever waits for it must not hold another one than the next


def _last_change(path: Path) -> float:
    log = path.with_name(f"{path.name}-wal")  # where SQLite writes first
    return max(file.stat().st_mtime for file in (path, log) if file.exists())


def _to_blob(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a model may say anything; SQLite's TEXT may not


def _from_blob(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogatepass")
