"""Draw what ``benchmarks.scaling`` measured: tokens/s over the number of GPUs, and over the time of each run.

python -m benchmarks.plots figures.jsonl --folder docs/images
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

#: Kinds of passes that are points of the curve.
_KINDS = ("weak", "strong")


def main() -> None:
    """Write ``scaling.png`` and ``throughput.png``, and say where."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("figures", type=Path, help="lines of JSON, as benchmarks.scaling or benchmarks.visit write them")
    options.add_argument("--folder", type=Path, default=Path())
    given = options.parse_args()
    lines = [json.loads(line) for line in given.figures.read_text().splitlines()]
    passes = [line for line in lines if line.get("kind") in _KINDS]
    if not passes:
        options.error(f"{given.figures} has no pass of benchmarks.scaling")
    machine = next((line["machine"] for line in lines if line.get("benchmark") == "scaling"), "")
    matplotlib.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    for name, figure in (("scaling.png", scaling(passes, machine)), ("throughput.png", throughput(passes, machine))):
        figure.savefig(given.folder / name, dpi=120, bbox_inches="tight")
        print(given.folder / name)


def scaling(passes: list[dict[str, Any]], machine: str) -> Figure:
    """Draw tokens/s over GPUs, and what as many times the first would be. Where both kinds asked for as many rows, one pass is both."""
    figure = Figure(figsize=(6, 4))
    axes = figure.add_subplot(xlabel="GPUs", ylabel="tokens/s", title=machine)
    for kind in _KINDS:
        points = {line["workers"]: line["tokens_per_s"] for line in passes if line["kind"] == kind}
        axes.plot(list(points), list(points.values()), marker="o", label=f"{kind} scaling")
    workers = sorted({line["workers"] for line in passes})
    alone = max(line["tokens_per_s"] for line in passes if line["workers"] == workers[0])
    axes.plot(workers, [alone * count / workers[0] for count in workers], color="grey", linestyle=":", label="as many times one GPU")
    axes.set_xticks(workers)
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def throughput(passes: list[dict[str, Any]], machine: str) -> Figure:
    """Draw the tokens of each second of each pass, from the first row sent on."""
    figure = Figure(figsize=(8, 4))
    axes = figure.add_subplot(xlabel="seconds", ylabel="tokens/s", title=machine)
    for line in passes:
        gpus = f"{line['workers']} GPU{'s' if line['workers'] > 1 else ''}"
        axes.plot(line["per_second"], label=f"{gpus}, {line['rows']:,} rows")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
