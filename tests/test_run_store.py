"""What the run store promises: it is the record, so nothing in it is lost, stored twice, or changed by reading."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.runs import SCHEMA_VERSION, RunStore, delete_run, find_run, list_runs
from tests.workbooks import RUN_ID, answered, begin_run, completion, manifest, save_workbook, tagged, unanswered
from workers.contract.errors import UserError
from workers.contract.messages import Answer, BlankLines, ModelIdentity, Outcome, ReplyFormat


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source; the store does not look into it."""
    path = tmp_path / "質問 1.xlsx"
    path.write_bytes(b"PK\x03\x04 any bytes \x00\xff")
    return path


@pytest.fixture
def store(tmp_path: Path, source: Path) -> Iterator[RunStore]:
    """A run of four rows that has just begun."""
    with RunStore.create(tmp_path, manifest(), source) as store:
        yield store


def answers(store: RunStore) -> list[Answer]:
    return [stored.answer for stored in store.answers()]


def test_an_answer_comes_back_as_it_was_stored(store: RunStore) -> None:
    """The workbook, statistics and preference pairs are all made from this."""
    given = [answered(0, tagged("一"), tagged("二")), unanswered(2), Answer(run_id=RUN_ID, row=3, outcome=Outcome.SKIPPED)]

    store.store(given)

    assert answers(store) == given


def test_answers_come_back_in_row_order(store: RunStore) -> None:
    """Workers finish in any order; the workbook is written in one pass."""
    store.store([answered(2), answered(0)])
    store.store([answered(3), answered(1)])

    assert [answer.row for answer in answers(store)] == [0, 1, 2, 3]


def test_an_answer_that_comes_twice_is_stored_once(store: RunStore) -> None:
    """Delivery is at least once; a second reply to the same question must not replace what people have already seen."""
    first = answered(1, tagged("first"))
    store.store([first])

    store.store([answered(1, tagged("second")), answered(1, tagged("third"), tagged("fourth"))])

    assert answers(store) == [first]
    assert store.tally().output_tokens == first.completions[0].output_tokens


def test_a_later_generation_replaces_the_earlier_one(store: RunStore) -> None:
    """A row asked anew on purpose gets its new answer, and nothing of the old one stays."""
    store.store([answered(1, tagged("old"), tagged("older"))])
    new = answered(1, tagged("new"), generation=1)

    store.store([new])

    assert answers(store) == [new]


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_message_of_an_old_generation_comes_too_late(store: RunStore, late: int) -> None:
    """A worker that was thought dead may still answer; by then the row has been asked again."""
    current = answered(1, tagged("current"), generation=2)
    store.store([current])

    store.store([answered(1, tagged("late"), generation=late)])

    assert answers(store) == [current]


def test_a_batch_is_stored_whole_or_not_at_all(store: RunStore) -> None:
    """Redis forgets a batch once it is stored; half a batch would be lost answers."""

    def broken() -> Iterator[Answer]:
        yield answered(0)
        raise RuntimeError("the connection broke")

    with pytest.raises(RuntimeError):
        store.store(broken())

    assert answers(store) == []


def test_a_run_is_found_again_with_all_it_knew(tmp_path: Path, source: Path) -> None:
    """The same command after a power cut goes on where it stopped."""
    identity = ModelIdentity(served_name="phi-4", engine="vllm", engine_version="0.32", model="some/model", adapters={"a": "1"})
    with RunStore.create(tmp_path, manifest(adapter="a"), source) as store:
        store.store([answered(1), unanswered(2)])
        store.store_model("f1", identity)
        known = list(store.answers()), store.tally(), store.last_stored_at()

    with RunStore.open(tmp_path, RUN_ID) or pytest.fail("gone") as again:
        assert again.manifest == manifest(adapter="a")
        assert (list(again.answers()), again.tally(), again.last_stored_at()) == known
        assert (again.models(), again.fingerprints()) == ({"f1": identity}, ["f1"])
        assert again.settled_rows() == {1, 2}


def test_a_run_that_never_began_is_not_there(tmp_path: Path) -> None:
    """Asking for a run must not make one."""
    assert RunStore.open(tmp_path, RUN_ID) is None
    assert list(tmp_path.iterdir()) == []


def test_creating_a_run_again_forgets_the_old_one(tmp_path: Path, source: Path) -> None:
    """--fresh asks everything anew."""
    with RunStore.create(tmp_path, manifest(), source) as old:
        old.store([answered(0)])

    with RunStore.create(tmp_path, manifest(rows=2), source) as new:
        assert answers(new) == []
        assert new.manifest.rows == 2


def test_the_same_command_finds_its_own_run(tmp_path: Path) -> None:
    """Nobody should have to remember a run's name to resume it."""
    workbook = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["a"], [""], ["c"]]})
    with begin_run(tmp_path, workbook) as store:
        store.store([answered(0, run_id=store.manifest.run_id)])

    with begin_run(tmp_path, workbook, reply_format=ReplyFormat.REASONING_ANSWER, limit=3) as again:
        assert again.settled_rows() == {0, 1}
        assert again.tally().by_outcome == {Outcome.ANSWERED: 1, Outcome.SKIPPED: 1}

    with begin_run(tmp_path, workbook, fresh=True) as fresh:
        assert fresh.settled_rows() == {1}


def test_a_first_run_may_be_fresh(tmp_path: Path) -> None:
    """A script that always says --fresh works on a new machine too."""
    workbook = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["a"]]})

    with begin_run(tmp_path / "new home", workbook, fresh=True) as store:
        assert store.settled_rows() == set()


def test_a_tally_counts_rows_and_tokens(store: RunStore) -> None:
    """This is what a person looks at to judge a run: how far it is, how many replies keep the format, what it cost."""
    store.store([answered(0), answered(1, "no tags"), unanswered(2), unanswered(3, Outcome.SKIPPED)])

    tally = store.tally()

    assert tally.by_outcome == {Outcome.ANSWERED: 1, Outcome.MALFORMED: 1, Outcome.FAILED: 1, Outcome.SKIPPED: 1}
    assert (tally.rows, tally.stored, tally.asked, tally.answered) == (4, 4, 3, 1)
    assert (tally.prompt_tokens, tally.output_tokens) == (22, 14)


def test_a_limit_hides_the_rows_behind_it_and_keeps_them(store: RunStore) -> None:
    """--limit 2 is a look at the beginning; what was already answered beyond it must be there again without it."""
    store.store([answered(row) for row in range(4)])

    store.update(limit=2)
    limited = len(answers(store)), store.tally().stored, store.tally().rows
    store.update(limit=None)

    assert limited == (2, 2, 2)
    assert len(answers(store)) == 4


def test_a_limit_beyond_the_end_asks_all_rows(store: RunStore) -> None:
    """--limit 1000 on a sheet of four rows is not a mistake."""
    store.update(limit=1000)

    assert store.tally().rows == 4


def test_another_reply_format_reads_the_stored_texts_again(store: RunStore) -> None:
    """A night of answers read in the wrong format is repaired in a second, without a GPU."""
    store.store([answered(0, tagged("42")), answered(1, "<think>why</think>42"), unanswered(2), answered(3, tagged("43"))])

    store.update(reply_format=ReplyFormat.THINK)

    first, second, third, _ = answers(store)
    assert (first.outcome, first.completions[0].answer) == (Outcome.MALFORMED, tagged("42"))
    assert (second.outcome, second.completions[0].reasoning, second.completions[0].answer) == (Outcome.ANSWERED, "why", "42")
    assert third == unanswered(2)
    assert store.tally().by_outcome == {Outcome.MALFORMED: 2, Outcome.ANSWERED: 1, Outcome.FAILED: 1}


def test_reading_in_one_format_and_back_changes_nothing(store: RunStore) -> None:
    """The raw text is the record; formats are ways to look at it."""
    store.store([answered(0, tagged(), "no tags"), answered(1, "<think>a</think>b"), answered(2, tagged(), finish_reason="length")])
    before = list(store.answers()), store.tally()

    for reply_format in (ReplyFormat.THINK, ReplyFormat.PLAIN, ReplyFormat.REASONING_ANSWER):
        store.update(reply_format=reply_format)

    assert (list(store.answers()), store.tally()) == before


def test_blank_lines_can_be_brought_back(store: RunStore) -> None:
    """Collapsing them is the reference's habit, not a loss: the raw text keeps every one."""
    store.store([answered(0, "<reasoning>r</reasoning><answer>a\n\nb</answer>")])
    collapsed = answers(store)[0].completions[0].answer

    store.update(blank_lines=BlankLines.KEEP)

    assert (collapsed, answers(store)[0].completions[0].answer) == ("a\nb", "a\n\nb")


def test_a_row_of_several_samples_has_the_best_of_their_outcomes(store: RunStore) -> None:
    """One good reply of three is a row answered, also after the texts are read again."""
    store.store([answered(0, "no tags", "<think>a</think>b", tagged())])

    store.update(reply_format=ReplyFormat.THINK)

    assert [c.outcome for c in answers(store)[0].completions] == [Outcome.MALFORMED, Outcome.ANSWERED, Outcome.MALFORMED]
    assert store.tally().by_outcome == {Outcome.ANSWERED: 1}


def test_a_change_of_the_manifest_is_there_after_opening_again(tmp_path: Path, source: Path) -> None:
    """`kotae collect` of tomorrow writes the workbook as the last command wished it."""
    with RunStore.create(tmp_path, manifest(), source) as store:
        store.update(reply_format=ReplyFormat.PLAIN, limit=3, overwrite=True, queue="kotae.1.phi-4.5")

    with RunStore.open(tmp_path, RUN_ID) or pytest.fail("gone") as again:
        assert again.manifest == manifest(reply_format=ReplyFormat.PLAIN, limit=3, overwrite=True, queue="kotae.1.phi-4.5")


def test_the_source_comes_back_byte_for_byte(store: RunStore, source: Path) -> None:
    """The workbook can be made again when the source has been moved, edited or deleted since."""
    content = source.read_bytes()
    source.unlink()

    with store.source() as copy:
        assert (copy.name, copy.read_bytes()) == (source.name, content)

    assert not copy.exists()


def test_a_source_of_any_size_is_kept(tmp_path: Path, store: RunStore) -> None:
    """SQLite holds no value of more than a gigabyte, and nobody should hold so much in memory: it lies in parts."""
    large = tmp_path / "large.csv"
    content = b"question\n" + b"0123456789abcde\n" * 600_000
    large.write_bytes(content)

    store.replace_source(large)
    with store.source() as copy:
        assert copy.read_bytes() == content
    large.write_bytes(content[:-16])
    store.replace_source(large)
    with store.source() as copy:
        assert copy.read_bytes() == content[:-16]


def test_the_source_can_be_replaced(tmp_path: Path, store: RunStore) -> None:
    """A note added in another column is no reason to ask again, and the next output should show it."""
    edited = tmp_path / "edited.xlsx"
    edited.write_bytes(b"PK edited")
    store.store([answered(0)])

    store.replace_source(edited)

    with store.source() as copy:
        assert copy.read_bytes() == b"PK edited"
    assert store.settled_rows() == {0}


def test_only_one_at_a_time_may_write_a_run(tmp_path: Path, store: RunStore, source: Path) -> None:
    """Two producers on one run would pay for every answer twice."""
    attempts: list[Callable[[], object]] = [
        lambda: RunStore.open(tmp_path, RUN_ID),
        lambda: RunStore.create(tmp_path, manifest(), source),
        lambda: delete_run(tmp_path, RUN_ID),
    ]

    for attempt in attempts:
        with pytest.raises(UserError, match=r"is being worked on by process \d+ on .*; wait for it, or stop it"):
            attempt()

    store.store([answered(0)])
    assert store.settled_rows() == {0}


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path, store: RunStore) -> None:
    """`kotae status` beside a `kotae run` shows how far it is."""
    store.store([answered(0)])

    with RunStore.open(tmp_path, RUN_ID, writing=False) or pytest.fail("gone") as reader:
        before = reader.settled_rows()
        store.store([answered(1)])
        after = reader.settled_rows()

    assert (before, after) == ({0}, {0, 1})


def test_a_killed_writer_lets_go_of_its_run(tmp_path: Path, source: Path) -> None:
    """No stale lock to delete by hand after a crash, and what was stored before it is there."""
    RunStore.create(tmp_path, manifest(), source).close()
    program = """if True:
        import pathlib, sys
        from producer.runs import RunStore
        from workers.contract.messages import Answer, Outcome
        store = RunStore.open(pathlib.Path(sys.argv[1]), sys.argv[2])
        store.store([Answer(run_id=sys.argv[2], row=0, outcome=Outcome.FAILED, error="e")])
        print("writing", flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), RUN_ID], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"

        with pytest.raises(UserError, match=f"process {writer.pid} on"):
            RunStore.open(tmp_path, RUN_ID)
        writer.kill()

    with RunStore.open(tmp_path, RUN_ID) or pytest.fail("gone") as store:
        assert store.settled_rows() == {0}


def test_a_deleted_run_is_gone(tmp_path: Path, source: Path) -> None:
    """Questions can be confidential: nothing of them may stay in the folder."""
    RunStore.create(tmp_path, manifest(), source).close()

    delete_run(tmp_path, RUN_ID)

    assert RunStore.open(tmp_path, RUN_ID) is None
    assert list((tmp_path / "runs").glob("*.sqlite*")) == []


def test_a_store_of_another_schema_is_left_alone(tmp_path: Path, source: Path) -> None:
    """A run made by a newer Kotae must neither be misread nor damaged by an older one."""
    with RunStore.create(tmp_path, manifest(), source) as store:
        path = store.path
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(UserError) as raised:
        RunStore.open(tmp_path, RUN_ID, writing=False)

    assert str(raised.value) == f"the run store {path} has schema 99, this Kotae knows {SCHEMA_VERSION}; use the Kotae that made it"


def test_a_file_that_is_no_store_is_said_in_one_line(tmp_path: Path) -> None:
    """A damaged disk, or a file put in the wrong folder, is no reason for a traceback."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{RUN_ID}.sqlite").write_bytes(b"not a database " * 100)

    with pytest.raises(UserError, match="cannot be used: file is not a database"):
        RunStore.open(tmp_path, RUN_ID, writing=False)


def test_a_home_that_cannot_be_written_is_said_in_one_line(tmp_path: Path, source: Path) -> None:
    """--home points at the wrong place: the message names the option."""
    (tmp_path / "file").touch()

    with pytest.raises(UserError, match="cannot be written: Not a directory; choose another --home"):
        RunStore.create(tmp_path / "file", manifest(), source)


def test_runs_are_found_by_the_beginning_of_their_names(tmp_path: Path, source: Path) -> None:
    """Sixteen hex digits are for machines; four are enough for people."""
    for run_id in ("aa11", "aa22", "bb33"):
        RunStore.create(tmp_path, manifest(run_id=run_id), source).close()

    assert sorted(list_runs(tmp_path)) == ["aa11", "aa22", "bb33"]
    assert find_run(tmp_path, "b") == "bb33"
    assert find_run(tmp_path, "last") == list_runs(tmp_path)[-1]
    with pytest.raises(UserError, match=r"2 runs of .* begin with 'aa'; the newest are: "):
        find_run(tmp_path, "aa")
    with pytest.raises(UserError, match=r"no runs of .* begin with 'cc'"):
        find_run(tmp_path, "cc")


@pytest.mark.parametrize(
    "text", ["half \ud83d a character \ude00", "nul \x00 inside", "", "\ufffe\uffff", "x" * 100_000, "a\r\nb\n\n"], ids=ascii
)
def test_any_text_of_a_model_is_kept(store: RunStore, text: str) -> None:
    """A broken token must not cost the row, and the raw text is kept even where no workbook could hold it."""
    store.store([answered(0, text)])

    assert answers(store)[0].completions == (completion(text),)


@pytest.fixture(scope="module")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunStore]:
    """One store for all examples of a property."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "in.xlsx").touch()
    with RunStore.create(folder, manifest(), folder / "in.xlsx") as store:
        yield store


@settings(max_examples=50)
@given(texts=st.lists(st.text(st.characters(exclude_categories=[])), min_size=1, max_size=4))
def test_whatever_a_model_says_comes_back(long_lived: RunStore, texts: list[str]) -> None:
    """The store is the record of all that was paid for."""
    known = answers(long_lived)
    answer = answered(0, *texts, generation=known[0].generation + 1 if known else 0)

    long_lived.store([answer])

    assert answers(long_lived) == [answer]


events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["a", "b", "c"])), max_size=20)


@settings(max_examples=30)
@given(events=events)
def test_messages_in_any_order_end_in_one_answer_per_row(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, str]]
) -> None:
    """Of every row the first message of its latest generation stays, however often and late the others come."""
    folder = tmp_path_factory.mktemp("events")
    (folder / "in.xlsx").touch()
    expected: dict[int, Answer] = {}

    with RunStore.create(folder, manifest(), folder / "in.xlsx") as store:
        for row, generation, text in events:
            answer = answered(row, tagged(text), generation=generation)
            store.store([answer])
            if row not in expected or generation > expected[row].generation:
                expected[row] = answer

        assert answers(store) == [expected[row] for row in sorted(expected)]


def test_a_store_that_cannot_be_opened_is_not_held(tmp_path: Path, source: Path) -> None:
    """Or the second try would complain of ourselves instead of the cause."""
    with RunStore.create(tmp_path, manifest(), source) as store:
        path = store.path
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()

    for _ in range(2):
        with pytest.raises(UserError, match="has schema 99"):
            RunStore.open(tmp_path, RUN_ID)


def test_a_late_answer_is_counted_as_it_is_read_by_now(tmp_path: Path, source: Path) -> None:
    """The worker read it by the format of an earlier command; the workbook and its totals must agree."""
    with RunStore.create(tmp_path, manifest(), source) as store:
        store.update(reply_format=ReplyFormat.THINK)

        store.store([answered(0, tagged())])

        (stored,) = store.answers()
        assert store.tally().by_outcome == {stored.answer.outcome: 1}


def test_an_error_of_any_characters_can_be_stored(tmp_path: Path, source: Path) -> None:
    """One odd message must not keep its whole batch from being stored."""
    with RunStore.create(tmp_path, manifest(), source) as store:
        store.store([unanswered(0, error="half \ud83d")])

        assert store.tally().stored == 1


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    """The store is not to blame."""
    with pytest.raises(UserError, match=r"cannot read .*none.xlsx"):
        RunStore.create(tmp_path, manifest(), tmp_path / "none.xlsx")
