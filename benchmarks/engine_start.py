"""How long a worker takes from its start until it takes rows: with nothing compiled before, then with what the first start left.

python -m benchmarks.engine_start --model FOLDER --engine-arg 'load_format="dummy"'
"""

import argparse
import tempfile
from pathlib import Path

from .arguments import add_engine, at_least_one
from .fleet import machine, say, start_fleet, today


def main() -> None:
    """Measure and print JSON lines."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_engine(options)
    options.add_argument("--gpu", default="")
    options.add_argument("--starts", type=at_least_one, default=3)
    given = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_fleet(Path(folder), given.model, given.engine, dict(given.engine_args)) as fleet,
    ):
        caches = {name: str(Path(folder) / name) for name in ("VLLM_CACHE_ROOT", "UNSLOTH_COMPILE_LOCATION", "TRITON_CACHE_DIR")}
        for start in range(given.starts):
            fleet.start_worker(given.gpu, **caches)
            ready_after, identity = fleet.wait(), fleet.identity()
            say(
                benchmark="engine_start",
                machine=machine(),
                date=today(),
                engine=identity.engine,
                versions={"vllm": identity.engine_version, **identity.versions},
                engine_args=identity.engine_args,
                compiled_before=start > 0,
                ready_after=ready_after,
            )
            fleet.stop_workers()


if __name__ == "__main__":
    main()
