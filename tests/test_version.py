"""A checkout that nobody has installed works too: a GPU host without a registry has Kotae as files."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import make_workbook

#: Starts the command line where there is no metadata of Kotae.
_NOT_INSTALLED = """
import importlib.metadata as metadata, sys
real = metadata.version
def version(name):
    if name == "kotae":
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
from producer.cli import run
sys.exit(run())
"""


def kotae(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line as it is in a checkout that is not installed."""
    command = [sys.executable, "-c", _NOT_INSTALLED, *map(str, arguments)]
    return subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=120, check=False)


def test_a_checkout_that_is_not_installed_answers_a_workbook(tmp_path: Path) -> None:
    """Its version is not known, and that is all."""
    workbook = make_workbook(tmp_path / "questions.xlsx", ["one", "two"])

    answered = kotae("run", workbook, "--engine", "echo", "--home", tmp_path / "home", "-o", tmp_path / "answers.xlsx")

    assert answered.returncode == 0, answered.stderr
    assert kotae("--version").stdout == "kotae (not installed)\n"


def test_the_doctor_claims_nothing_of_what_it_cannot_know(tmp_path: Path) -> None:
    """What an extra wants stands in the metadata."""
    found = kotae("doctor", "--home", tmp_path / "home")

    assert "Traceback" not in found.stderr
    assert "(not installed)" in found.stdout
    assert "vLLM for GPUs" not in found.stdout
