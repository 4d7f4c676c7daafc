"""What raising the yield costs: a workbook asked as it is, its malformed rows asked anew, and all of it held to the format.

One worker answers the same rows for every seed in three ways: ``run``; then ``retry --malformed`` so many times; and, as a run of its
own, ``run --enforce-format``. Tokens are counted over all that was asked, also for replies that a later one replaced.

    python -m benchmarks.keeping_format --seeds 0 1 2 3 4 --retries 3 --max-tokens 256
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from producer.manage import open_run_by_name
from workers.contract.messages import Outcome

from .arguments import add_engine, at_least_one
from .fleet import Fleet, machine, say, start_fleet, today

_EXAMPLE = Path(__file__).parent.parent / "examples" / "questions.xlsx"


class Cost(NamedTuple):
    """What was asked, and what it came to."""

    rows: int
    answered: int
    malformed: int
    truncated: int
    #: Rows asked, those asked anew once more each time; and the tokens of all of them.
    asked: int
    prompt_tokens: int
    output_tokens: int

    def __add__(self, other: tuple[int, ...]) -> "Cost":  # type: ignore[override]  # figures, not a longer tuple
        return Cost(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def told(self) -> dict[str, Any]:
        """Return what is printed of it."""
        per_answered = round(self.output_tokens / self.answered, 1) if self.answered else None
        return self._asdict() | {"yield": round(self.answered / self.rows, 4), "output_tokens_per_answered_row": per_answered}


def main() -> None:
    """Measure and print JSON lines, the sums last."""
    given = _options()
    sums: dict[str, Cost] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        start_fleet(Path(folder), given.model, given.engine, dict(given.engine_args)) as fleet,
    ):
        fleet.start_worker("")
        fleet.wait()
        for seed in given.seeds:
            for way, cost in _ways(fleet, given, seed).items():
                say(seed=seed, way=way, **cost.told())
                sums[way] = sums[way] + cost if way in sums else cost
        identity = fleet.identity()
    say(
        benchmark="keeping_format",
        machine=machine(),
        date=today(),
        versions={"vllm": identity.engine_version, **identity.versions},
        seeds=given.seeds,
        max_tokens=given.max_tokens,
        ways={way: cost.told() for way, cost in sums.items()},
    )


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workbook", type=Path, default=_EXAMPLE)
    add_engine(options, ["vllm"])
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options.add_argument("--retries", type=int, default=3)
    options.add_argument("--max-tokens", type=at_least_one, default=256)
    return options.parse_args()


def _ways(fleet: Fleet, given: argparse.Namespace, seed: int) -> dict[str, Cost]:
    """Ask the workbook in every way with one seed; return what each cost, from its first question on."""
    asked = ("run", str(given.workbook), "--max-tokens", str(given.max_tokens), "--seed", str(seed))
    run = _kotae(fleet, *asked)
    ways = {"as it is": _cost(fleet, run, 0)}
    spent = ways["as it is"]
    for again in range(1, given.retries + 1):
        _kotae(fleet, "retry", run, "--malformed")
        now = _cost(fleet, run, again)
        spent = now._replace(
            asked=spent.asked + now.asked,
            prompt_tokens=spent.prompt_tokens + now.prompt_tokens,
            output_tokens=spent.output_tokens + now.output_tokens,
        )
        ways[f"retry --malformed x {again}"] = spent
    ways["--enforce-format"] = _cost(fleet, _kotae(fleet, *asked, "--enforce-format"), 0)
    return ways


def _kotae(fleet: Fleet, *arguments: str) -> str:
    """Run a command on the fleet; return the id of its run."""
    out = fleet.home / "out.xlsx"
    command = [sys.executable, "-m", "producer.cli", *arguments, "-o", str(out), "--home", str(fleet.home / "runs"), "--json"]
    ended = subprocess.run(command, env=dict(os.environ) | {"KOTAE_BROKER": fleet.url}, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 3):
        raise SystemExit(ended.stderr)
    run_id: str = json.loads(ended.stdout)["run_id"]
    return run_id


def _cost(fleet: Fleet, run: str, generation: int) -> Cost:
    """Return what a run holds by now, and what its questions of one generation have cost."""
    with open_run_by_name(fleet.home / "runs", run, writing=False) as store:
        tally = store.tally()
        outcomes = tally.by_outcome
        mine = [stored.answer for stored in store.answers() if stored.answer.generation == generation]
    return Cost(
        tally.asked,
        tally.answered,
        outcomes.get(Outcome.MALFORMED, 0),
        outcomes.get(Outcome.TRUNCATED, 0),
        len(mine),
        sum(answer.prompt_tokens or 0 for answer in mine),
        sum(one.output_tokens for answer in mine for one in answer.completions),
    )


if __name__ == "__main__":
    main()
