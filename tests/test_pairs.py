"""Preference pairs: what is chosen over what, what gives no pair, and that trainers read what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from producer.analysis.joining import digest_of, join, shown_digest
from producer.analysis.preferences.choosing import score_of
from producer.analysis.preferences.columns import plain_prompt
from producer.analysis.preferences.tags import in_tags
from producer.analysis.replies import Reply
from producer.analysis.sources import open_source
from producer.cli import cli
from producer.workbook.cells import CellError
from producer.workbook.reading import read_sheet
from tests.conftest import Finished, Kotae
from tests.workbooks import answered, begin_run, grid, save_workbook, tagged, unanswered
from workers.contract.errors import UserError
from workers.contract.messages import Answer, ChatMessage, Outcome, ReplyFormat
from workers.contract.replies import REASONING_ANSWER_PROMPT, read_reply

HEADERS = ["NO", "question", "strong", "reasoning", "gold", "good", "bad"]


class InProcess(Kotae):
    """The command line without a process of its own, which takes most of the time of a command as short as this one."""

    def __call__(self, *arguments: str | Path, **_: Any) -> Finished:
        ended = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        if isinstance(ended.exception, UserError):
            return Finished(2, ended.stdout, f"kotae: {ended.exception}\n")
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return Finished(ended.exit_code, ended.stdout, ended.stderr)


@pytest.fixture
def kotae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kotae:
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return InProcess(tmp_path)


def ask(kotae: Kotae, rows: list[list[Any]], replies: list[Answer], name: str = "q.xlsx", **options: Any) -> str:
    """Keep a run of a workbook, as if a model had answered it; return its id."""
    workbook = save_workbook(kotae.folder / name, {"q": [HEADERS, *rows]})
    with begin_run(kotae.folder / ".kotae", workbook, **options) as store:
        run_id = store.manifest.run_id
        store.store(reply.model_copy(update={"run_id": run_id}) for reply in replies)
    return run_id


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def row(question: str = "1+1?", strong: str = "2", why: str = "one and one", gold: str = "", good: Any = "", bad: Any = "") -> list[Any]:
    return [1, question, strong, why, gold, good, bad]


def content(messages: list[dict[str, str]]) -> list[str]:
    return [message["content"] for message in messages]


def test_every_reason_not_to_make_a_pair_is_counted_once(kotae: Kotae) -> None:
    """The bar: tie, identical, malformed, truncated, missing rows never in the pairs, and counted."""
    ask(
        kotae,
        [
            row("fine?"),
            row("identical?", "same  full", "r"),
            row("malformed?"),
            row("truncated?"),
            row("failed?"),
            row("not asked yet?"),
            row("empty?"),
            row("no reasoning?", why=""),
            row("strong has none?", strong=""),
            row("", "2"),
        ],
        [
            answered(0, tagged("3")),
            answered(1, tagged("same full", "r")),
            answered(2, "I think it is 3."),
            answered(3, tagged("3"), finish_reason="length"),
            unanswered(4),
            answered(6, tagged("  ")),
            answered(7, tagged("3")),
            answered(8, tagged("3")),
            unanswered(9, Outcome.SKIPPED),
        ],
    )

    told = kotae.json("pairs", "--chosen", "q.xlsx:strong", "--rejected", "last", "-o", "pairs.jsonl")

    assert (told["rows"], told["pairs"]) == (10, 1)
    assert (told["dropped"].pop("missing"), set(told["dropped"].values())) == (3, {1})
    assert [*told["dropped"]] == ["skipped", "truncated", "empty", "malformed", "no_reasoning", "identical"]
    assert [content(one["prompt"]) for one in read(kotae.folder / "pairs.jsonl")] == [[REASONING_ANSWER_PROMPT, "fine?"]]
    assert "9 of 10: 1 no question, 3 missing" in kotae("pairs", "q.xlsx:strong", "last", "--by", "source", "-o", "again.jsonl").out


def test_replies_stand_in_the_models_tags_with_where_they_come_from(kotae: Kotae) -> None:
    """A raw reply as the model wrote it, also its blank lines; the parts of a column between the same tags again."""
    raw = tagged("３", "もし\n\n1足す1なら")
    run_id = ask(kotae, [row()], [answered(0, raw)], seed=7, temperature=0.9)

    kotae.json("pairs", "--chosen", "q.xlsx:strong", "--rejected", "last", "-o", "pairs.jsonl")

    (pair,) = read(kotae.folder / "pairs.jsonl")
    assert pair["chosen"] == [{"role": "assistant", "content": tagged("2", "one and one")}]
    assert pair["rejected"] == [{"role": "assistant", "content": raw}]
    assert (pair["chosen_source"], pair["chosen_model"], pair["chosen_seed"]) == ("q.xlsx:strong", "strong", "")
    assert (pair["rejected_source"], pair["rejected_model"], pair["rejected_row"], pair["rejected_sample"]) == (run_id, "phi-4", 0, 1)
    assert pair["rejected_seed"].isdigit()
    assert json.loads(pair["rejected_sampling"])["temperature"] == 0.9
    front, _, body = (kotae.folder / "pairs.jsonl.card.md").read_text("utf-8").removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front)["configs"][0]["data_files"] == [{"split": "train", "path": "pairs.jsonl"}]
    assert yaml.safe_load(front)["size_categories"] == ["n<1K"]
    assert f"### Run {run_id}" in body
    assert "1 preference pair " in body
    assert "| sampling: seed | 7 |" in body


def test_a_malformed_reply_is_kept_only_to_be_rejected(kotae: Kotae) -> None:
    ask(kotae, [row("a?"), row("b?")], [answered(0, "no tags"), answered(1, tagged("3"))])

    kept = kotae.json("pairs", "--chosen", "q.xlsx:strong", "--rejected", "last", "--keep-malformed", "-o", "kept.jsonl")
    turned = kotae.json("pairs", "--chosen", "last", "--rejected", "q.xlsx:strong", "--keep-malformed", "-o", "turned.jsonl")

    assert (kept["pairs"], kept["dropped"]) == (2, {})
    assert read(kotae.folder / "kept.jsonl")[0]["rejected"][0]["content"] == "no tags"
    assert (turned["pairs"], turned["dropped"]) == (1, {"malformed": 1})


def test_the_best_sample_of_a_run_stands_against_its_worst(kotae: Kotae) -> None:
    """Repetition decides before length; samples that say the same are no pair, nor are those that differ by nothing that counts."""
    loop = tagged("So", "I will think about the matter again. " * 30)
    ask(
        kotae,
        [row("loops?"), row("alike?"), row("tie?"), row("one left?")],
        [
            answered(0, loop, tagged("So it is", "Ice floats because water expands when it freezes."), "no tags at all"),
            answered(1, tagged("x"), tagged("x"), tagged("x")),
            answered(2, tagged("yes"), tagged("no!"), tagged("no.")),
            answered(3, tagged("x"), "no tags", "none here"),
        ],
        samples=3,
    )

    told = kotae.json("pairs", "last", "-o", "pairs.jsonl")

    assert told["dropped"] == {"malformed": 1, "identical": 1, "tie": 1}
    (pair,) = read(kotae.folder / "pairs.jsonl")
    assert (pair["chosen_sample"], pair["rejected_sample"]) == (2, 1)
    assert pair["why"].startswith("repetition 0% before 9")


def test_by_gold_a_right_reply_stands_against_a_wrong_one(kotae: Kotae) -> None:
    ask(
        kotae,
        [row("a?", gold="１２"), row("b?", gold="12"), row("c?", gold="12"), row("d?")],
        [
            answered(0, tagged("答えは12個です。"), tagged("13")),
            answered(1, tagged("13"), tagged("14")),
            answered(2, tagged("12"), tagged("12 個")),
            answered(3, tagged("12"), tagged("13")),
        ],
        samples=2,
    )

    told = kotae.json("pairs", "last", "--gold", "gold", "-o", "pairs.jsonl")

    assert told["dropped"] == {"tie": 2, "undecided": 1}
    (pair,) = read(kotae.folder / "pairs.jsonl")
    assert (pair["chosen_sample"], pair["rejected_sample"], pair["why"]) == (1, 2, "right before wrong")


def test_by_scores_the_higher_one_is_chosen(kotae: Kotae) -> None:
    rows = [row("a?", good="８", bad=3), row("b?", good=3, bad=3), row("c?", good="n/a", bad=3), row("d?", good=2.5, bad=9)]
    ask(kotae, rows, [answered(number, tagged("other")) for number in range(4)])

    told = kotae.json("pairs", "q.xlsx:strong", "last", "--score", "good", "--score", "bad", "-o", "pairs.parquet")

    assert told["dropped"] == {"undecided": 1, "tie": 1}
    table = read_sheet(kotae.folder / "pairs.parquet", question_column="why")
    found = [dict(zip(table.headers, cells, strict=True)) for cells in table.rows()]
    assert [(one["score_chosen"], one["score_rejected"], one["chosen_row"]) for one in found] == [(8, 3, 0), (9, 2.5, 3)]


def test_rows_of_one_source_that_ask_the_same_are_one_question(kotae: Kotae) -> None:
    """A workbook with an answer and a score per row, several for each question."""
    save_workbook(
        kotae.folder / "long.xlsx",
        {"q": [["question", "output", "score"], ["a?", "x", 1], ["b?", "y", 2], ["a?", "z", 5], ["a?", "w", 3], ["b?", "v", "-"]]},
    )

    told = kotae.json("pairs", "long.xlsx:output", "--score", "score", "--format", "plain", "-o", "pairs.jsonl")

    assert (told["rows"], told["questions"], told["pairs"], told["dropped"]) == (5, 2, 1, {"undecided": 1})
    (pair,) = read(kotae.folder / "pairs.jsonl")
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ("a?\n\n", "z", "x"), "no reasoning anywhere: no tags, no prompt for them"


def test_judgements_of_a_page_decide(kotae: Kotae) -> None:
    """The file knows its sources; a verdict on another question is refused, and one on other replies is not used."""
    run_id = ask(kotae, [row(f"{name}?") for name in "abcd"], [answered(number, tagged("other")) for number in range(4)])
    with open_source("q.xlsx:strong", kotae.folder) as strong, open_source("last", kotae.folder / ".kotae") as run:
        digests = [shown_digest(digest_of(joined)) for joined in join([strong, run])]
    judged: list[dict[str, Any]] = [
        {"place": 0, "question": "a?", "verdict": "better", "best": 1, "note": "計算が正しい", "rows": [0, 0]},
        {"place": 1, "question": "b?", "verdict": "tie", "best": None},
        {"place": 2, "question": "c?", "verdict": None, "best": None, "note": "?"},
        {"place": 3, "question": "d?", "verdict": "better", "best": 0, "digest": digests[0]},
    ]
    judged[0]["digest"] = digests[0]
    export = {
        "format": "kotae-judgements",
        "version": 1,
        "join": None,
        "exported_at": "2026-01-02T03:04:05Z",
        "judgements": judged,
        "sources": [{"name": "q.xlsx:strong", "run_id": None}, {"name": "last", "run_id": run_id}],
    }
    (kotae.folder / "judged.json").write_text(json.dumps(export))

    told = kotae.json("pairs", "--judgements", "judged.json", "-o", "pairs.jsonl")
    judged[0]["question"] = "z?"
    (kotae.folder / "judged.json").write_text(json.dumps(export))
    refused = kotae("pairs", "--judgements", "judged.json", "-o", "pairs.jsonl")

    assert told["dropped"] == {"undecided": 1, "outdated": 1, "tie": 1}
    (pair,) = read(kotae.folder / "pairs.jsonl")
    assert (pair["chosen_source"], pair["why"]) == (run_id, "judged better: 計算が正しい")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "judgements of other questions" in refused.err


def test_a_pair_that_no_cell_can_hold_is_left_out_of_a_workbook(kotae: Kotae) -> None:
    """Half a reply is nothing to learn from."""
    ask(kotae, [row("a?"), row("b?")], [answered(0, tagged("x" * 32_767)), answered(1, tagged("x"))])

    told = kotae.json("pairs", "--chosen", "q.xlsx:strong", "--rejected", "last", "-o", "pairs.xlsx")

    assert (told["pairs"], told["dropped"]) == (1, {"too_long": 1})
    headers, pair = grid(kotae.folder / "pairs.xlsx", "pairs")
    assert headers[:3] == ["prompt", "chosen", "rejected"]
    assert json.loads(pair[0])[1] == {"role": "user", "content": "b?"}
    assert ["pairs", 1.0] in grid(kotae.folder / "pairs.xlsx", "about")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--chosen", "last"], "--chosen and --rejected go together"),
        (["--by", "gold", "last"], "--by gold needs --gold COLUMN"),
        (["last", "--gold", "gold", "--score", "good"], "is of no use with --by score"),
        (["--by", "source", "last"], "takes two sources"),
        ([], "name the sources"),
        (["last", "--gold", "nothing"], "has no column 'nothing'"),
        (["q.xlsx:strong", "--score", "strong"], "no pair is left of 1 question: 1 missing"),
        (["q.xlsx:strong", "--score", "reasoning"], "it is no column of scores"),
        (["last", "--judgements", "q.xlsx"], "holds no judgements of kotae compare"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_what_was_there(kotae: Kotae, arguments: list[str], says: str) -> None:
    ask(kotae, [row()], [answered(0, tagged("3"))])
    (kotae.folder / "pairs.jsonl").write_text("old")

    finished = kotae("pairs", *arguments, "-o", "pairs.jsonl")

    assert (finished.code, len(finished.err.splitlines())) == (2, 1), finished.err
    assert says in finished.err
    assert (kotae.folder / "pairs.jsonl").read_text() == "old"


def test_the_workbook_itself_is_never_overwritten(kotae: Kotae) -> None:
    ask(kotae, [row()], [answered(0, tagged("3"))])

    finished = kotae("pairs", "--chosen", "q.xlsx:strong", "--rejected", "last", "-o", "q.xlsx")

    assert (finished.code, "the workbook itself" in finished.err) == (2, True)


def test_a_reply_whose_first_tag_stood_in_the_prompt_gets_it_back() -> None:
    """The template puts <think> into the prompt, and takes it from there again when the pair is rendered."""
    text = "hm\n</think>\n\n42"

    reply = Reply(*read_reply(text, "stop", ReplyFormat.THINK), text=text)

    assert in_tags(reply, ReplyFormat.THINK, ReplyFormat.THINK) == f"<think>\n{text}"
    assert in_tags(reply, ReplyFormat.THINK, ReplyFormat.REASONING_ANSWER) == tagged("42", "hm")
    assert in_tags(reply, ReplyFormat.THINK, ReplyFormat.PLAIN) == "42"
    assert in_tags(Reply("", "42", Outcome.ANSWERED), ReplyFormat.PLAIN, ReplyFormat.THINK) is None


def test_what_is_no_number_is_no_score() -> None:
    scores = [score_of(cell) for cell in (True, CellError("#N/A"), "", "good", float("inf"), "nan", "１．５", 2)]

    assert [score if score == score else None for score in scores] == [None] * 6 + [1.5, 2.0]


def test_a_plain_prompt_says_who_says_what_only_where_there_are_turns() -> None:
    turns = [ChatMessage(role=role, content=role[0]) for role in ("system", "user", "assistant", "user")]

    assert plain_prompt(turns[:2]) == "s\n\nu\n\n"
    assert plain_prompt(turns) == "s\n\nuser: u\n\nassistant: a\n\nuser: u\n\nassistant:\n"
