"""What workbooks cost: seconds and peak memory of reading every format, of storing answers, and of writing every format.

    python -m benchmarks.workbooks --rows 1000000 --characters 200
    python -m benchmarks.workbooks --rows 100000 --characters 2000 --sources xlsx --outputs xlsx

Every step is a process of its own and prints one JSON object. Questions and answers have as many characters as is asked for, in
Japanese and English, and no two are alike, so that nothing compresses better than it would for a person.
"""

import argparse
import csv
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from benchmarks.fleet import machine, today
from producer.local import LocalModel
from producer.options import AskOptions
from producer.prepare import make_plan, open_run
from producer.runs import RunStore, list_runs
from producer.workbook.assembly import write_workbook
from producer.workbook.cells import Cell
from producer.workbook.reading import read_sheet
from producer.workbook.writing import Table, write_tables
from workers.contract.messages import Answer, Completion, Outcome

from .arguments import at_least_one

FORMATS = ("xlsx", "csv", "jsonl", "parquet")
HEADERS = ("NO", "question", "category", "checked")
_WORDS = "答え 理由 したがって 計算 速度 距離 時間 正しい 値 関数 求める まず 次に 最後に the because value of function x y 3.5"
_MOST_IN_XLSX = 1_048_575
_BATCH = 5_000


def main() -> None:
    """Measure what is asked for; print a JSON object per step."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=at_least_one, default=100_000)
    options.add_argument("--characters", type=at_least_one, default=200, help="of each question, and of each answer with its reasoning")
    options.add_argument("--sources", nargs="*", default=FORMATS, choices=FORMATS)
    options.add_argument("--outputs", nargs="*", default=FORMATS, choices=FORMATS)
    options.add_argument("--times", type=at_least_one, default=2, help="how often each step is measured")
    options.add_argument("--folder", type=Path, help="where files are made, and stay; otherwise in a temporary one")
    options.add_argument("--step", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.step:
        what, name = given.step
        print(json.dumps(_measured(what, Path(name), given.rows, given.characters)), flush=True)
        return
    print(json.dumps({"benchmark": "workbooks", "machine": machine(), "date": today()} | _sizes(given)), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for step, file in _steps(given, folder):
            command = [sys.executable, "-m", "benchmarks.workbooks", "--step", step, str(file)]
            sizes = ["--rows", str(given.rows), "--characters", str(given.characters)]
            subprocess.run([*command, *sizes], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def _sizes(given: argparse.Namespace) -> dict[str, int]:
    return {"rows": given.rows, "characters": given.characters, "times": given.times}


def _steps(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    for suffix in given.sources:
        source = folder / f"source.{suffix}"
        if suffix == "xlsx" and given.rows > _MOST_IN_XLSX:
            continue
        yield "make", source
        yield from [("read", source)] * given.times
    # A workbook as the source would be in memory while an output of another kind is written.
    yield "ask", folder / f"source.{'csv' if 'csv' in given.sources else given.sources[0]}"
    for suffix in given.outputs:
        out = folder / f"out.{suffix}"
        yield from [("write", out)] * given.times
        yield "check", out


def _measured(what: str, file: Path, rows: int, characters: int) -> dict[str, Any]:
    """Do one step; return what it took: seconds, seconds of the processor, and the most memory that this process ever held."""
    began, busy = time.monotonic(), time.process_time()
    match what:
        case "make":
            told = _make(file, rows, characters)
        case "read":
            sheet = read_sheet(file)
            told = {"rows": sheet.height, "characters": sum(map(len, sheet.questions()[:1000])) // min(1000, sheet.height)}
        case "ask":
            told = _ask(file, characters)
        case "write":
            with _store(file.parent) as store:
                told = {"notices": write_workbook(store, file)}
        case "check":
            told = _check(file, rows)
        case _:
            raise ValueError(what)
    seconds, used = time.monotonic() - began, time.process_time() - busy
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    times = {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1), "peak_mb": round(peak * 1024 / 1e6)}
    return {"step": what, "file": file.name} | times | {"file_mb": round(file.stat().st_size / 1e6)} | told


def _text(row: int, characters: int) -> str:
    """Return a text that no other row has, and that begins with the row's number."""
    words = random.Random(row).choices(_WORDS.split(), k=characters // 4)
    return f"{row} {' '.join(words)}"[:characters]


def _rows(count: int, characters: int) -> Iterator[list[Cell]]:
    for row in range(count):
        yield [row, _text(row, characters), "数学", row % 2 == 0]


def _make(file: Path, count: int, characters: int) -> dict[str, Any]:
    rows = _rows(count, characters)
    match file.suffix:
        case ".xlsx":
            write_tables(file, [Table("questions", HEADERS, rows, {1})], datetime.datetime(2026, 1, 1))  # noqa: DTZ001
        case ".csv":
            with file.open("w", encoding="utf-8", newline="") as text:
                csv.writer(text).writerows(chain([HEADERS], rows))
        case ".jsonl":
            with file.open("w", encoding="utf-8") as text:
                text.writelines(json.dumps(dict(zip(HEADERS, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)
        case _:
            _make_parquet(file, rows)
    return {}


def _make_parquet(file: Path, rows: Iterable[list[Cell]]) -> None:
    """One group of rows, as pandas writes up to a million: the hardest to read in little memory."""
    import pyarrow
    import pyarrow.parquet

    columns = zip(*rows, strict=True)
    table = pyarrow.table({name: list(values) for name, values in zip(HEADERS, columns, strict=True)})
    pyarrow.parquet.write_table(table, file, row_group_size=table.num_rows)


def _ask(source: Path, characters: int) -> dict[str, Any]:
    """Plan a run, begin it, and store an answer to every row, as the producer of a fleet does; only the fleet is missing."""
    plan = make_plan(source, AskOptions())
    with open_run(plan, source.parent, "echo", None, LocalModel("echo", "echo", "echo", {})) as store:
        answers = (_answer(store.manifest.run_id, row, characters) for row in range(plan.sheet.height))
        while batch := list(islice(answers, _BATCH)):
            store.store(batch)
        return {"rows": store.tally().stored}


def _answer(run_id: str, row: int, characters: int) -> Answer:
    said = _text(row, characters)
    half = characters // 2
    text = f"<reasoning>\n{said[half:]}\n</reasoning>\n<answer>\n{said[:half]}\n</answer>\n"
    completion = Completion(text=text, reasoning="", answer="", outcome=Outcome.ANSWERED, finish_reason="stop", output_tokens=100)
    return Answer(
        run_id=run_id,
        row=row,
        outcome=Outcome.ANSWERED,
        completions=(completion,),
        prompt_tokens=50,
        worker="w",
        fingerprint="f",
        seconds=1.0,
    )


def _store(home: Path) -> RunStore:
    store = RunStore.open(home, list_runs(home)[-1], writing=False)
    assert store is not None, "the step before has made it"
    return store


def _check(file: Path, count: int) -> dict[str, Any]:
    """Read an output again; return how many rows have the answer that begins with their own number."""
    sheets = range(1, -(-count // _MOST_IN_XLSX) + 1) if file.suffix == ".xlsx" else [1]
    in_place = 0
    for number in sheets:
        with _store(file.parent) as store:
            name = store.manifest.sheet + (f" ({number})" if number > 1 else "")
        sheet = read_sheet(file, name)
        answer = sheet.headers.index("answer")
        in_place += sum(str(row[answer]).partition(" ")[0] == str(row[0]) for row in sheet.rows())
    return {"rows_with_their_own_answer": in_place}


if __name__ == "__main__":
    main()
