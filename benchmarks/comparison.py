"""What `kotae compare` costs, and how soon its page opens in Chromium: seconds, CPU seconds and memory for rows of two replies each.

python -m benchmarks.comparison --rows 10000 --characters 1500
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import xlsxwriter
from playwright.sync_api import sync_playwright

from .arguments import at_least_one

_WORDS = (
    "春",
    "夏",
    "秋",
    "冬",
    "桜",
    "紅葉",
    "気温",
    "日本",
    "特徴",
    "説明",
    "考える",
    "まず",
    "次に",
    "したがって",
    "問題",
    "答え",
    "計算",
    "速さ",
    "月",
    "地球",
    "光",
    "距離",
    "時間",
    "理由",
    "文化",
)
_HEADERS = ["NO", "category", "question", "answer (A)", "reasoning (A)", "answer (B)", "reasoning (B)"]
_MEGABYTE = 1e6


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=at_least_one, default=10_000)
    options.add_argument("--characters", type=at_least_one, default=1_500, help="of a reply: a third is its answer, the rest its reasoning")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "answers.xlsx"
        _write(source, given.rows, given.characters)
        told = {"benchmark": "comparison", "rows": given.rows, "characters": given.characters, "cores": os.cpu_count()}
        for ending in ("html", "xlsx"):
            told[ending] = _compare(source, Path(folder) / f"comparison.{ending}")
        told["open_s"] = _open(Path(folder) / "comparison.html")
    print(json.dumps(told))


def _write(path: Path, rows: int, characters: int) -> None:
    chance = random.Random(1)

    def text(length: int) -> str:
        return "".join(chance.choice(_WORDS) + chance.choice("はがをに、。で") for _ in range(length // 3))[:length]

    with xlsxwriter.Workbook(str(path), {"constant_memory": True}) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, _HEADERS)
        for row in range(1, rows + 1):
            replies = [text(characters * share // 3) for share in (1, 2, 1, 2)]
            sheet.write_row(row, 0, [row, f"category {row % 9}", f"{text(40)}（{row}）", *replies])


def _compare(source: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "producer.cli", "compare", f"{source}:answer (A)", f"{source}:answer (B)", "-o", str(out)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        _, status, used = os.wait4(running.pid, 0)  # with those it has waited for: processes that measure
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss * 1024 / _MEGABYTE),
        "file_mb": round(out.stat().st_size / _MEGABYTE, 1),
    }


def _open(page: Path) -> float:
    """Return the seconds until the first question is shown."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--disable-gpu"])
        tab = browser.new_page()
        began = time.monotonic()
        tab.goto(page.as_uri())
        tab.wait_for_selector(".side")
        seconds = round(time.monotonic() - began, 2)
        browser.close()
    return seconds


if __name__ == "__main__":
    main()
