"""What a worker finds out about the GPUs of its host, before it loads anything. Here only ``nvidia-smi`` is played: there is no GPU."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import StartWorker
from workers.contract.errors import UserError
from workers.contract.hardware import GPUMemory, gpu_memory
from workers.engines.compile_cache import compiled_once
from workers.fleet import choose_gpus, group_gpus

#: Two GPUs of 140 GiB, of which one is nearly full.
_NVIDIA_SMI = """#!/bin/sh
case "$1" in
--query-gpu=index) printf '0\\n1\\n' ;;
*) printf '0, GPU-aa, 143000, 143771\\n1, GPU-bb, 2048, 143771\\n' ;;
esac
"""


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host with two GPUs, the second one busy; return the PATH on which it looks like that."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(_NVIDIA_SMI)
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return path


def test_the_memory_of_a_gpu_is_found_by_index_and_by_uuid(two_gpus: str) -> None:
    """CUDA_VISIBLE_DEVICES may hold either."""
    memory = gpu_memory()

    assert memory["0"] == memory["GPU-aa"] == GPUMemory(143000 / 1024, 143771 / 1024)
    assert memory["1"].free == 2


def test_a_gpu_of_which_something_odd_is_told_is_one_of_which_nothing_is_known(two_gpus: str) -> None:
    """nvidia-smi mixes its warnings into the list."""
    Path(two_gpus.partition(os.pathsep)[0], "nvidia-smi").write_text("#!/bin/sh\nprintf 'Warning: old driver\\n0, GPU-aa, 1, 2, 3\\n'\n")

    assert list(gpu_memory()) == ["0", "GPU-aa"]


@pytest.mark.parametrize("wanted", ["", " ", ",", "0,0", "1,0,1"])
def test_a_list_that_names_no_gpu_or_one_twice_is_refused(two_gpus: str, wanted: str) -> None:
    """The CPU is asked for by name; and two engines on one GPU would take each other's memory."""
    with pytest.raises(UserError, match=r"^--gpus .*(names none|named twice)"):
        choose_gpus(wanted)


@pytest.mark.parametrize(
    ("gpus", "size", "groups"),
    [(["0", "1"], 1, [["0"], ["1"]]), (["0", "1", "2", "3"], 2, [["0", "1"], ["2", "3"]]), ([], 1, [])],
)
def test_gpus_that_share_a_model_make_one_worker(gpus: list[str], size: int, groups: list[list[str]]) -> None:
    """Tensor parallelism needs neighbours."""
    assert group_gpus(gpus, size) == groups


@pytest.mark.parametrize(("gpus", "size"), [(["0", "1", "2"], 2), ([], 2), (["0"], 0)])
def test_gpus_that_do_not_come_out_even_are_refused(gpus: list[str], size: int) -> None:
    """A worker of half a group would wait for ever for its other half."""
    with pytest.raises(UserError, match=f"tensor_parallel_size {size}"):
        group_gpus(gpus, size)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gpus", "2"], "no GPU 2 here; visible: 0, 1"),
        (["--gpus", "1"], "GPU 1 is busy: 2.0 of 140.4 GiB are free, and vLLM is to take 129.2"),
        (["--gpus", "0", "--engine-arg", "gpu_memory_utilization=0.001"], "the model is too large for GPU 0: its weights take 0."),
        (["--gpus", "all", "--tensor-parallel-size", "3"], "2 GPUs cannot be shared out in groups of 3"),
    ],
    ids=["missing", "busy", "too small", "uneven"],
)
def test_a_gpu_that_will_not_do_is_one_line_at_the_start(start_worker: StartWorker, two_gpus: str, options: list[str], says: str) -> None:
    """Told by CUDA it would be a page, after minutes of loading."""
    command = [sys.executable, "-m", "workers", "--model", "demo", *options]
    worker = start_worker(command=command, wait=False, PATH=two_gpus)

    assert worker.popen.wait(120) == 2
    assert says in worker.said()
    assert "Traceback" not in worker.said()


def test_what_vllm_died_of_at_its_start_is_one_line(start_worker: StartWorker) -> None:
    """It says so in the log of another process, and to its caller only that it failed."""
    options = ["--gpus", "none", "--engine-arg", "num_gpu_blocks_override=2", "--engine-arg", "max_model_len=2048"]
    worker = start_worker(command=[sys.executable, "-m", "workers", "--model", "demo", *options], wait=False)

    assert worker.popen.wait(120) in (2, 71)
    told = [line for line in worker.said().splitlines() if line.startswith("kotae-worker: ")]
    assert len(told) == 1, worker.said()[-2000:]
    assert "KV cache" in told[0]


def test_of_several_processes_one_compiles_and_the_others_wait(tmp_path: Path) -> None:
    """vLLM writes a part of its cache in place: who reads it meanwhile may find half of it."""
    program = f"""
import sys, pathlib
from workers.engines.compile_cache import compiled_once
with compiled_once(pathlib.Path({str(tmp_path)!r}), "vllm", {{"a": 1}}):
    print("in", flush=True)
    sys.stdin.readline()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "in\n"
        entered: list[float] = []

        def enter() -> None:
            with compiled_once(tmp_path, "vllm", {"a": 1}):
                entered.append(time.monotonic())

        second = threading.Thread(target=enter)
        second.start()
        with compiled_once(tmp_path, "vllm", {"a": 2}):
            pass  # something else is not held up
        assert not entered
        done = time.monotonic()
        first.stdin.write("\n")
        first.stdin.flush()
        second.join(60)
    assert entered
    assert entered[0] >= done

    with compiled_once(tmp_path, "vllm", {"a": 1}), compiled_once(tmp_path, "vllm", {"a": 1}):
        pass  # once it is compiled, nobody waits


def test_a_process_that_dies_while_it_compiles_lets_the_next_one_try(tmp_path: Path) -> None:
    """A kill in the first minute must not lock the host."""
    with pytest.raises(ZeroDivisionError), compiled_once(tmp_path, "x"):
        raise ZeroDivisionError
    with compiled_once(tmp_path, "x"):
        pass
