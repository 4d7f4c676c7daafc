"""Draw what ``benchmarks.scaling`` and ``benchmarks.killed_engine`` measured, each as far as it is among the lines.

python -m benchmarks.plots benchmarks/figures/*.jsonl --folder docs/images
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
from matplotlib.figure import Figure

Lines: TypeAlias = list[dict[str, Any]]

#: Kinds of passes that are points of the curve.
_KINDS = ("weak", "strong")
#: Kinds of passes of ``benchmarks.killed_engine``.
_KILLED = ("no kill", "kill -9 of an engine core")


def main() -> None:
    """Write a picture for each benchmark that has lines, and say where."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("figures", type=Path, nargs="+", help="lines of JSON, as the benchmarks or benchmarks.visit write them")
    options.add_argument("--folder", type=Path, default=Path())
    given = options.parse_args()
    lines = [json.loads(line) for file in given.figures for line in file.read_text().splitlines()]
    matplotlib.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    drawn = [given.folder / name for name, draw in PICTURES.items() if _save(draw(lines), given.folder / name)]
    if not drawn:
        options.error("there is no pass of benchmarks.scaling or benchmarks.killed_engine")
    print(*drawn, sep="\n")


def scaling(lines: Lines) -> Figure | None:
    """Draw tokens/s over GPUs, and what as many times the first would be. Where both kinds asked for as many rows, one pass is both."""
    passes = [line for line in lines if line.get("kind") in _KINDS]
    if not passes:
        return None
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot(xlabel="GPUs", ylabel="tokens/s", title=_machine(lines, "scaling"))
    strong_rows = {line["rows"] for line in passes if line["kind"] == "strong"}
    weak = {line["workers"]: line["tokens_per_s"] for line in passes if line["kind"] == "weak"}
    strong = {line["workers"]: line["tokens_per_s"] for line in passes if line["rows"] in strong_rows}
    for kind, points in (("weak", weak), ("strong", strong)):
        axes.plot(list(points), list(points.values()), marker="o", label=f"{kind} scaling")
    workers = sorted({line["workers"] for line in passes})
    alone = max(line["tokens_per_s"] for line in passes if line["workers"] == workers[0])
    axes.plot(workers, [alone * count / workers[0] for count in workers], color="grey", linestyle=":", label="as many times one GPU")
    axes.set_xticks(workers)
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def throughput(lines: Lines) -> Figure | None:
    """Draw the tokens of each second of each pass of ``benchmarks.scaling``, from the first row sent on."""
    passes = [line for line in lines if line.get("kind") in _KINDS and "per_second" in line]
    return _over_time(passes, _machine(lines, "scaling")) if passes else None


def killed_engine(lines: Lines) -> Figure | None:
    """Draw the tokens of each second with and without a killed engine, and when it was killed and back; of several such passes the last."""
    passes = list({line["kind"]: line for line in lines if line.get("kind") in _KILLED}.values())
    if not passes:
        return None
    figure = _over_time(passes, _machine(lines, "killed_engine"))
    for line in passes:
        if "killed_after" in line:
            back = line["killed_after"] + line["back_after"]
            figure.axes[0].axvspan(line["killed_after"], back, color="grey", alpha=0.15, linewidth=0, label="one engine is away")
    figure.axes[0].legend()
    return figure


#: By the name of its file.
PICTURES: dict[str, Callable[[Lines], Figure | None]] = {
    "scaling.png": scaling,
    "throughput.png": throughput,
    "killed-engine.png": killed_engine,
}


def _over_time(passes: Lines, machine: str) -> Figure:
    figure = Figure(figsize=(8, 4))
    axes = figure.add_subplot(xlabel="seconds", ylabel="tokens/s", title=machine)
    for line in passes:
        kind = "" if line["kind"] in _KINDS else f", {line['kind']}"
        axes.plot(line["per_second"], label=f"{line['workers']} GPU{'s' if line['workers'] > 1 else ''}, {line['rows']:,} rows{kind}")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _machine(lines: Lines, benchmark: str) -> str:
    return next((line["machine"] for line in lines if line.get("benchmark") == benchmark), "")


def _save(figure: Figure | None, path: Path) -> bool:
    if figure is not None:
        figure.savefig(path, dpi=110, bbox_inches="tight")
    return figure is not None


if __name__ == "__main__":
    main()
