"""`kotae stats` and `kotae report`: what replies amount to, as figures and as a page."""

import io
import json
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from producer.analysis.gold import Match
from producer.analysis.intervals import Share, Values
from producer.analysis.report import report
from producer.analysis.sources import open_source
from producer.analysis.stats import Asked, stats
from producer.analysis.surveying import survey
from producer.desk import Desk
from producer.runs import RunStore
from tests.conftest import Kotae, make_workbook
from tests.workbooks import answered, begin_run, tagged, unanswered
from workers.contract.errors import UserError
from workers.contract.messages import Outcome

LOOP = "まず、猫は犬ではありません。" * 12
HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(2)><style>*{}</style>{{ 7*7 }}]]>\x00\x1b[31m\ud800"


@pytest.mark.parametrize(
    ("count", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_intervals_are_those_of_the_literature(count: int, of: int, low: float, high: float) -> None:
    """The last one is an example of Newcombe (1998), table I."""
    assert Share(count, of).interval == pytest.approx((low, high), abs=1e-4)


@given(st.integers(0, 500), st.integers(1, 500))
def test_an_interval_holds_its_share(count: int, of: int) -> None:
    share = Share(min(count, of), of)

    assert share.interval is not None
    assert share.value is not None
    assert 0 <= share.interval[0] <= share.value <= share.interval[1] <= 1


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=50))
def test_quantiles_are_those_of_the_library(numbers: list[float]) -> None:
    values = Values()
    for number in numbers:
        values.add(number)

    assert values.quantiles(0.25, 0.5, 0.75) == pytest.approx(statistics.quantiles(numbers, n=4, method="inclusive"))


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    """Eight rows, of which every one has another fate."""
    questions = ["6×7は？", "7×6は？", "猫は？", "How is the weather?", "Loop?", "Broken?", "Fails?", "Later?"]
    book = make_workbook(
        tmp_path / "q.xlsx",
        questions,
        category=["算数", "算数", "猫", "", "x", "x", "x", "x"],
        gold=[42, "４２", "動物", "", "7", "7", "7", "7"],
    )
    store = begin_run(tmp_path / ".kotae", book)
    same = "猫はとても賢い動物であり、昔から人と暮らしてきた。"
    store.store(
        [
            answered(0, tagged("答えは42です。", "六かける七を計算します。"), run_id=store.manifest.run_id),
            answered(1, tagged("42", "七かける六を計算すると四十三だ。"), run_id=store.manifest.run_id),
            answered(2, tagged(same, same), run_id=store.manifest.run_id),
            answered(3, tagged("今日はとてもよく晴れています。", "Let me look out of the window now."), run_id=store.manifest.run_id),
            answered(4, f"<reasoning>{LOOP}", run_id=store.manifest.run_id, finish_reason="length"),
            answered(5, "<reasoning>why</reasoning>the answer is 8", run_id=store.manifest.run_id),
            unanswered(6, Outcome.FAILED, HOSTILE, run_id=store.manifest.run_id),
        ]
    )
    store.close()
    return store


def desk_of(folder: Path) -> Desk:
    return Desk(folder / ".kotae", Console(file=io.StringIO(), markup=False, width=220), False)


def test_every_figure_is_right_and_says_of_how_many(run: RunStore, kotae: Kotae) -> None:
    """Through the command line, as a program reads it."""
    told = kotae.json("stats", run.manifest.run_id[:8], "--by", "category", "--gold", "gold", "--plots", "charts")

    total = told["sources"][0]["total"]
    assert (total["rows"], total["missing"], total["asked"], total["replies"]) == (8, 1, 7, 6)
    assert total["outcomes"] == {"answered": 4, "malformed": 1, "truncated": 1, "failed": 1}
    assert (total["yield"]["count"], total["yield"]["of"]) == (4, 7)
    assert total["malformed"] == {"of": 1, "kinds": {"no answer tag": 1}}
    assert (total["loops"]["count"], total["loops"]["of"]) == (1, 6)
    assert total["repetition"]["max"] > 0.9
    assert (total["copied_reasoning"]["count"], total["copied_reasoning"]["of"]) == (1, 4)
    assert {"question": "latin", "answer": "ja", "rows": 1} in total["languages"]
    assert total["tokens"]["output"]["of"] == total["seconds"]["of"] == 6
    assert (total["accuracy"]["count"], total["accuracy"]["of"], total["accuracy"]["without_reply"]) == (2, 5, 2)
    assert [group["value"] for group in told["sources"][0]["groups"]] == ["算数", "猫", "", "x"]
    assert told["sources"][0]["groups"][0]["accuracy"]["share"] == 1.0
    assert sum(group["rows"] for group in told["sources"][0]["groups"]) == 8
    for path in told["plots"]:
        assert ElementTree.parse(kotae.folder / path).getroot().tag.endswith("svg")
    assert len(told["plots"]) >= 6


def test_equal_answers_to_different_questions_are_counted(tmp_path: Path) -> None:
    """And equal questions; white space, case and width do not tell texts apart. Both for a column of a workbook."""
    make_workbook(tmp_path / "a.xlsx", ["A?", "B?", "C?", "Ａ?"], output=["It depends.", "it  depends.", "No.", "Yes."])
    desk = Desk(tmp_path, Console(file=io.StringIO(), markup=False), False)

    told = json.loads(json.dumps(_told(tmp_path / "a.xlsx", desk)))

    found = told["total"]["duplicates"]
    assert (found["answers"], found["rows_of_answers"], found["commonest"], found["of"]) == (1, 2, [0, 1], 4)
    assert (found["questions"], found["rows_of_questions"]) == (1, 2)


def _told(path: Path, desk: Desk) -> dict[str, Any]:
    with open_source(f"{path}:output", desk.home) as source:
        return survey(source).told()


def test_only_a_whole_reply_is_right_and_only_a_filled_cell_is_gold(tmp_path: Path) -> None:
    """The last number of half a reasoning may be the right one by chance; NaN is how data frames write an empty cell."""
    rows = [("q0", 42), ("q1", 42), ("q2", 42.0), ("q3", float("nan")), ("q4", None)]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"question": question, "gold": gold}) + "\n" for question, gold in rows))
    with begin_run(tmp_path / ".kotae", path) as store:
        run_id = store.manifest.run_id
        half = answered(0, "<reasoning>6 × 7 = 42", run_id=run_id, finish_reason="length")
        store.store([half, answered(1, "It is 42.", run_id=run_id), *(answered(n, tagged("42"), run_id=run_id) for n in (2, 3, 4))])
    with open_source("last", tmp_path / ".kotae") as source:
        told = survey(source, by="gold", gold="gold").told()

    assert (told["total"]["accuracy"]["count"], told["total"]["accuracy"]["of"]) == (1, 3)
    assert [(group["value"], group["rows"]) for group in told["groups"]] == [("42", 3), ("", 2)]


def test_samples_of_a_question_are_told_together(tmp_path: Path) -> None:
    """Agreement, the majority's answer and pass@k, and of how many questions."""
    store = begin_run(tmp_path / ".kotae", make_workbook(tmp_path / "q.xlsx", ["6×7?"], gold=[42]), samples=4)
    store.store([answered(0, *(tagged(answer) for answer in ("41", "42", "答えは42です", "42")), run_id=store.manifest.run_id)])
    store.close()
    desk = desk_of(tmp_path)

    stats(Asked([store.manifest.run_id], gold="gold"), None, desk)

    shown = desk.console.file.getvalue()  # type: ignore[attr-defined]
    assert "50.0% (of 1 question with several samples)" in shown, "3 of 6 pairs agree"
    assert "75.0% (of 1 question" in shown, "pass@1"
    assert "0.0% (0 of 1; 95 %" in shown, "the first sample alone is wrong"
    assert "100.0% (1 of 1; 95 %" in shown, "the majority is right"


def test_a_table_shows_runs_side_by_side(run: RunStore, tmp_path: Path) -> None:
    """And, of each, its groups; texts of the workbook are no markup."""
    make_workbook(tmp_path / "b.xlsx", ["6×7は？"], output=["42"], category=["[bold]算数[/]\x1b[2J"])
    desk = desk_of(tmp_path)

    stats(Asked([run.manifest.run_id, f"{tmp_path / 'b.xlsx'}:output"], by="category"), None, desk)

    shown = desk.console.file.getvalue()  # type: ignore[attr-defined]
    assert "57.1% (4 of 7; 95 %: 25.0% to 84.2%)" in shown
    assert "100.0% (1 of 1; 95 %: 20.7% to 100.0%)" in shown
    assert "[bold]算数[/] [2J" in shown
    assert "no answer tag 1 (of 1 malformed" in shown


class Page(HTMLParser):
    """The tags of a page, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")


def test_what_a_model_says_is_text_on_the_page(tmp_path: Path) -> None:
    """Scripts, styles, templates and letters that no encoding has; in questions, answers, columns and names of files."""
    book = make_workbook(
        tmp_path / "q <b>.xlsx", [f"問{row}" for row in range(3)], **{"<script>x": ["<i>a</i>", "<script>g</script>", "c"]}
    )
    store = begin_run(tmp_path / ".kotae", book)
    run_id = store.manifest.run_id
    store.store(
        [
            answered(0, tagged(HOSTILE, HOSTILE), run_id=run_id),
            answered(1, HOSTILE, run_id=run_id),
            unanswered(2, Outcome.FAILED, HOSTILE, run_id=run_id),
        ]
    )
    store.close()
    out = tmp_path / "r.html"

    report(Asked([run_id], by="<script>x", gold="<script>x"), out, desk_of(tmp_path))

    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img", "iframe", "object", "link", "i", "b"} & set(page.tags)
    assert page.tags.count("style") == 1
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(link.startswith("#") for link in page.attributes["href"])
    assert "src" not in page.attributes
    assert "default-src 'none'" in page.attributes["content"][0] or any("default-src 'none'" in one for one in page.attributes["content"])
    assert "{{ 7*7 }}" in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_report_shows_where_answers_come_from_and_what_to_read_first(run: RunStore, tmp_path: Path) -> None:
    """Provenance, totals, charts, the worst of every kind, the best; and nothing is half-written."""
    out = tmp_path / "r.html"

    report(Asked([run.manifest.run_id], by="category", gold="gold"), out, desk_of(tmp_path))

    text = out.read_text(encoding="utf-8")
    for words in (
        "Provenance",
        "sampling: temperature",
        "phi-4",
        "57.1% (4 of 7",
        "Repetitive",
        "12 times in a row",
        "Malformed",
        "Wrong",
        "Best",
    ):
        assert words in text
    assert text.count("<svg") >= 6
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(["nothing"]), "nothing"),
        (Asked(["q.xlsx:nowhere"]), "no column 'nowhere'"),
        (Asked(["q.xlsx:category"], by="gone"), "no column 'gone'"),
        (Asked(["q.xlsx:category"], gold="gone"), "no column 'gone'"),
        (Asked(["q.xlsx:category"], match=Match.CHOICE), "--gold COLUMN"),
    ],
)
def test_a_mistake_is_told_in_one_line(run: RunStore, tmp_path: Path, asked: Asked, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is written."""
    monkeypatch.chdir(tmp_path)

    for command in (lambda: stats(asked, Path("charts"), desk_of(tmp_path)), lambda: report(asked, Path("r.html"), desk_of(tmp_path))):
        with pytest.raises(UserError, match=said) as error:
            command()
        assert "\n" not in str(error.value)
    assert not Path("charts").exists()
    assert not Path("r.html").exists()


def test_a_report_replaces_no_workbook(run: RunStore, tmp_path: Path) -> None:
    """An output must be called as a page is."""
    with pytest.raises(UserError, match=r"ends in \.html"):
        report(Asked([run.manifest.run_id]), tmp_path / "q.xlsx", desk_of(tmp_path))
