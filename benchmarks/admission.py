"""What it costs when a slow worker takes more rows than its engine has room for: two echo workers, one four times as slow.

Both may take 256 rows, and have room for 64. Taken by need, as the product does it, rows that would only wait stay in the queue.

    python -m benchmarks.admission
"""

import argparse
import json
import tempfile
from pathlib import Path

from producer.local import DEMO

from .fleet import machine, say, start_fleet, today
from .ledgers import spans, tail


def main() -> None:
    """Measure and print JSON lines."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=2400)
    options.add_argument("--passes", type=int, default=3)
    given = options.parse_args()
    fast = {"delay": 1.0, "delay_spread": 0.8, "max_num_seqs": 64}
    slow = {"delay": 4.0, "delay_spread": 3.2, "max_num_seqs": 64}
    with tempfile.TemporaryDirectory() as folder, start_fleet(Path(folder), DEMO, "echo", fast) as fleet:
        for args in (fast, slow):
            fleet.start_worker("", KOTAE_MAX_IN_FLIGHT="256", KOTAE_ENGINE_ARGS=json.dumps(args))
        fleet.wait()
        for _ in range(given.passes):
            passed = fleet.ask(fleet.new_pass(given.rows, 16), 16)
            engines = [spans(worker.ledger, passed.run_id) for worker in fleet.workers]
            told = {"benchmark": "admission", "machine": machine(), "date": today(), "rows": given.rows}
            say(**told, seconds=round(passed.seconds, 1), rows_per_worker=[len(engine) for engine in engines], tail=tail(engines))


if __name__ == "__main__":
    main()
