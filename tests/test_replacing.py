"""How a file comes into its place. The one that was there before may be the only copy, and writers are killed at any moment."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from producer.runs import RunStore
from producer.workbook.destination import check_writable
from producer.workbook.replacing import check_place, replacing
from tests.conftest import Kotae, make_workbook, stopped_in_the_end
from tests.test_run import ECHO, table
from tests.workbooks import answered, begin_run
from workers.contract.errors import WorkbookError

KILLS = 50

#: Writes a run's workbook in one process after the other, each into a folder of its own, and kills them: most at even distances on
#: their way, counted in calls, the others one call apart around the moment in which the file changes.
KILLER = """if True:
    import os, signal, sys
    from pathlib import Path
    from producer.runs import RunStore
    from producer.workbook.assembly import write_workbook
    home, run_id, folder, kills = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    before = b"the only copy"
    def write(name, at_each_call):
        out = folder / name / "out.xlsx"
        if not out.exists():
            out.parent.mkdir()
            out.write_bytes(before)
        with RunStore.open(home, run_id, writing=False) as store:
            sys.setprofile(lambda *_: at_each_call(out))
            write_workbook(store, out)
            sys.setprofile(None)
        return out
    calls, changed = 0, 0
    def look(out):
        global calls, changed
        calls += 1
        if not changed and out.stat().st_size != len(before):
            changed = calls
    after = write("warm", lambda _: None).read_bytes()  # what is loaded once is loaded
    process = os.fork()  # as those that will be killed
    if not process:
        write("look", look)
        (folder / "counted").write_text(f"{calls} {changed}")
        os._exit(0)
    os.waitpid(process, 0)
    calls, changed = map(int, (folder / "counted").read_text().split())
    spread = [1 + calls * number // kills for number in range(kills * 3 // 5)]
    for number, last in enumerate([*spread, *range(changed - kills // 5, changed + kills - kills * 3 // 5 - kills // 5)]):
        name = f"{number:04}"
        process = os.fork()
        if not process:
            left = iter(range(last - 1, -1, -1))
            write(name, lambda _: next(left) or os.kill(os.getpid(), signal.SIGKILL))
            os._exit(0)
        _, status = os.waitpid(process, 0)
        out = folder / name / "out.xlsx"
        state = {before: "before", after: "after"}.get(out.read_bytes(), "damaged")
        if number % 10 == 5:
            write(name, lambda _: None)
        print(os.WTERMSIG(status), state, len(list(out.parent.iterdir())) - 1)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run whose rows are answered."""
    source = make_workbook(tmp_path / "q.xlsx", [f"question {row}" for row in range(40)])
    with begin_run(tmp_path / "home", source) as run:
        run.store(answered(row, run_id=run.manifest.run_id) for row in range(40))
        yield run


@pytest.mark.parametrize("keep_format", [False, True])
def test_fifty_killed_writers_leave_the_file_before_as_it_was(tmp_path: Path, store: RunStore, keep_format: bool) -> None:
    """Wherever a writer is killed, the file is the old one or the new one; and the next writer clears away what it left."""
    store.update(keep_format=keep_format)
    command = [sys.executable, "-c", KILLER, store.path.parent.parent, store.manifest.run_id, tmp_path, str(KILLS)]

    ended = subprocess.run(command, timeout=120, capture_output=True, text=True)

    lines = [line.split() for line in ended.stdout.splitlines()]
    assert [line[0] for line in lines] == ["9"] * KILLS, ended.stderr
    assert {line[1] for line in lines} == {"before", "after"}
    assert sum(line[1] == "before" for line in lines) > KILLS * 3 / 5
    assert {line[2] for line in lines[5::10]} == {"0"}
    assert {line[2] for line in lines} == {"0", "1"}, "a writer leaves one folder at most"


HOLDER = """if True:
    import sys
    from pathlib import Path
    from producer.workbook.replacing import replacing
    with replacing(Path(sys.argv[1])) as work:
        work.write_text("mine")
        print(work, flush=True)
        sys.stdin.read()
"""


def test_what_a_living_writer_has_is_never_swept(tmp_path: Path) -> None:
    """Two commands may write the same output; the later one must not pull the paper from under the other's pen."""
    out = tmp_path / "out.xlsx"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with stopped_in_the_end(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)) as living:
        assert living.stdout is not None
        other = Path(living.stdout.readline().strip())

        with replacing(out) as work:
            work.write_text("ours")

        assert (out.read_text(), other.read_text()) == ("ours", "mine")
        living.communicate("", timeout=60)
    assert (out.read_text(), list(tmp_path.iterdir())) == ("mine", [out])


def test_only_what_was_left_of_this_output_is_swept(tmp_path: Path) -> None:
    """Folders of other outputs, and of people, are not ours to delete."""
    others = [tmp_path / name for name in (".out.xlsx.abc.tmp", ".other.xlsx.abcdefgh.tmp", ".out.xlsx.abcdefgh.tmp.d")]
    left = [tmp_path / name for name in (".out.xlsx.abcdefgh.tmp", ".out.xlsx.12345678.tmp")]
    for folder in [*others, *left]:
        folder.mkdir()
    (left[1] / "writing").touch()
    (left[1] / "out.xlsx").touch()

    with replacing(tmp_path / "out.xlsx") as work:
        work.touch()

    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "out.xlsx"])


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    """Japanese names take three bytes a character."""
    out = tmp_path / ("回答" * 41 + ".xlsx")
    check_place(out)

    with replacing(out) as work:
        work.touch()

    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(("mark", "program"), [(".~lock.out.xlsx#", "LibreOffice"), ("~$out.xlsx", "Excel")])
def test_an_output_that_is_open_in_a_spreadsheet_program_is_said_before_the_run(kotae: Kotae, mark: str, program: str) -> None:
    """Whoever saves there later would replace the answers by what they have on their screen."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    (kotae.folder / mark).touch()

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO)

    assert finished.code == 2
    assert f"out.xlsx is open in {program}: close it there" in finished.err
    assert not (kotae.folder / ".kotae").exists()


AS_NOBODY = """if True:
    import os, sys
    from pathlib import Path
    from producer.workbook.destination import check_writable
    from workers.contract.errors import WorkbookError
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 65534)
    try:
        check_writable(Path(sys.argv[1]))
    except WorkbookError as error:
        print(error)
"""


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_place_that_is_read_only_is_said_before_any_work(what: str) -> None:
    """A share may let us look and not write."""
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    out = folder / "out.xlsx"
    out.touch()
    try:
        folder.chmod(0o555 if what == "folder" else 0o777)
        out.chmod(0o444)
        said = subprocess.run([sys.executable, "-c", AS_NOBODY, str(out)], capture_output=True, text=True, check=True).stdout
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)

    reason = "Permission denied" if what == "folder" else "it is read-only"
    assert said == f"the output {out} cannot be written: {reason}\n"


def test_a_pipe_in_the_place_of_the_file_is_said(tmp_path: Path) -> None:
    """Nor what a link leads to: as root, a device would be no more."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out.xlsx").symlink_to(tmp_path / "pipe")

    with pytest.raises(WorkbookError, match="is no file but a device or a pipe"):
        check_writable(tmp_path / "out.xlsx")


def test_a_folder_in_the_place_of_the_file_is_said(tmp_path: Path) -> None:
    """A path that was cut short."""
    (tmp_path / "out.xlsx").mkdir()

    with pytest.raises(WorkbookError, match=r"out\.xlsx is a folder; give the name of a workbook"):
        check_writable(tmp_path / "out.xlsx")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False
    with suppress(OSError):
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("a disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("more", [(), ("--keep-format",)], ids=["fresh", "kept"])
def test_a_disk_that_is_full_costs_nothing(kotae: Kotae, small_disk: Path, more: tuple[str, ...]) -> None:
    """The output of before stays, the answers are in the store, and the command that writes them elsewhere is said."""
    questions = [f"{row} {os.urandom(2000).hex()}" for row in range(60)]
    make_workbook(kotae.folder / "q.xlsx", questions)
    out = make_workbook(small_disk / "out.xlsx", ["before"])
    before = out.read_bytes()

    finished = kotae("run", "q.xlsx", "-o", out, *ECHO, *more)

    line = finished.err.splitlines()[-1]
    assert (finished.code, len(finished.err.splitlines())) == (2, 1), finished.err
    assert f"cannot write {out}: No space left on device" in line
    assert (out.read_bytes(), list(small_disk.iterdir())) == (before, [out])
    command = line.partition("all answers are kept: kotae ")[2].replace("OUT", "elsewhere.xlsx").split()
    assert kotae(*command).code == 0
    assert [row["answer"] for row in table(kotae.folder / "elsewhere.xlsx")] == questions
