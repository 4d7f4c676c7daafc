"""The page of a comparison in a real browser: it finds, filters, judges, hides, keeps; and obeys nobody but its reader."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from producer.analysis.compare import compare
from producer.analysis.preferences.options import PairOptions
from producer.analysis.preferences.pairs import pairs
from producer.desk import Desk

from .hostile import HOSTILE
from .workbooks import answered, begin_run, save_workbook, tagged, unanswered

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUESTIONS = [
    "日本の四季を説明してください。",
    "光は一秒に何キロ進みますか。",
    "Why is the sky blue?",
    "",
    "猫に小判の意味は？",
    "Name a prime.",
]


def write(home: Path, out: Path, *names: str, column: str | None = None) -> Path:
    desk = Desk(home, Console(quiet=True), False)
    assert compare(names, out, column, None, None, desk) == 0
    return out


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six rows beside the column of a stronger model."""
    folder = tmp_path_factory.mktemp("comparison")
    header = ["NO", "分野", "question", "output", "reasoning"]
    replies = ["**「春」**です。\n1. 桜\n続き\n| a | b |\n|--|--:|\n| 1 | 2 |", "三十万", "Scattering.", "", "", "Seven, a b a b"]
    rows = [[n + 1, ["文化", "理科"][n % 2], question, replies[n], "因为"] for n, question in enumerate(QUESTIONS)]
    path = save_workbook(folder / "q.xlsx", {"s": [header, *rows]})
    with begin_run(folder / "home", path) as store:
        run_id = store.manifest.run_id
        loop = tagged("同じことです。", "同じことを何度も言います。" * 30)
        store.store(
            [
                answered(0, loop, run_id=run_id),
                answered(1, "no tags at all", run_id=run_id),
                answered(2, tagged("Rayleigh"), tagged("Second sample"), run_id=run_id),
                unanswered(4, error="the engine said no", run_id=run_id),
            ]
        )
    return write(folder / "home", folder / "comparison.html", "last", f"{path}:output")


@pytest.fixture
def page(browser: "Browser", comparison: Path) -> "Iterator[Page]":
    """The page, opened as a file by somebody who has never opened it."""
    context = browser.new_context(viewport={"width": 1300, "height": 800})
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.goto(comparison.as_uri())
    opened.wait_for_selector(".side")
    yield opened
    context.close()
    assert faults == []


def texts(page: "Page", selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def shown(page: "Page") -> int:
    """Return which question is shown, once it is."""
    place = int(page.evaluate("location.hash.slice(1)")) - 1
    page.wait_for_selector(f"main[data-place='{place}'] .side")
    return place


def listed(page: "Page", count: int) -> list[str]:
    """Return what is listed, once it is so many questions."""
    page.wait_for_selector(f".list[data-count='{count}']", state="attached")
    return texts(page, ".item .excerpt")


def exported(page: "Page") -> Any:
    with page.expect_download() as download:
        page.click("#export")
    return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))


def test_answers_stand_side_by_side_with_their_markdown(page: "Page") -> None:
    """Also Markdown as Japanese is written, and what stood behind a blank line that is no more."""
    assert texts(page, ".side h2 .name") == ["phi-4", "output"]
    assert texts(page, "[data-position='2'] .text strong") == ["「春」"]
    assert texts(page, "[data-position='2'] .text li") == ["桜"]
    assert texts(page, "[data-position='2'] .text td") == ["1", "2"]
    assert page.locator("[data-position='2'] .text").get_attribute("lang") == "ja"
    assert "↻ reasoning 97 %" in page.inner_text("[data-position='1'] .facts")
    assert page.locator("details.reasoning .text").count() == 0
    page.click("[data-position='1'] summary")
    assert page.inner_text("[data-position='1'] details .text").startswith("同じことを何度も言います。")


def test_missing_answers_are_shown_as_missing(page: "Page") -> None:
    """Not answered yet, failed, not in the column: three things, and none of them is an empty answer."""
    page.keyboard.press("j")
    shown(page)
    assert texts(page, ".side .outcome") == ["malformed", "answered"]
    for _ in range(3):
        page.keyboard.press("j")
    shown(page)
    assert texts(page, ".reply > .missing") == ["the engine said no", "Missing: there is no reply to this question."]
    page.keyboard.press("j")
    shown(page)
    assert texts(page, ".side .outcome") == ["missing", "answered"]


def test_every_sample_can_be_read(page: "Page") -> None:
    page.keyboard.press("j")
    page.keyboard.press("j")
    shown(page)
    page.click(".samples button:nth-child(2)")

    assert "Second sample" in page.inner_text("[data-position='1'] .reply")
    assert page.inner_text(".voted") == "1 of 2 say what sample 1 does"


def test_search_and_filters_find_rows(page: "Page") -> None:
    """In questions and answers, whatever the width and case of letters."""
    listed(page, 6)
    page.keyboard.press("/")
    page.keyboard.type("ＲＡＹＬＥＩＧＨ")
    assert listed(page, 1) == ["Why is the sky blue?"]
    assert shown(page) == 2
    page.fill("input[type=search]", "no such thing")
    page.wait_for_selector(".list .nothing")
    page.fill("input[type=search]", "")
    listed(page, 6)

    page.select_option("select[aria-label=Outcome]", "malformed")
    assert listed(page, 1) == [QUESTIONS[1]]
    page.select_option("select[aria-label=Outcome]", "")
    page.click("select[data-column=分野]")
    page.select_option("select[data-column=分野]", label="理科 (3)")
    assert listed(page, 3) == [QUESTIONS[1], "(no question)", QUESTIONS[5]]
    assert page.evaluate("document.activeElement.tagName") == "BODY"  # the keys are the page's again
    page.select_option("select[data-column=分野]", "")
    page.select_option("select[aria-label=Order]", "repetition")
    page.wait_for_selector(f".item:first-child:has-text('{QUESTIONS[0]}')")


def test_judgements_are_kept_over_a_reload_and_exported(page: "Page") -> None:
    page.keyboard.press("2")
    page.keyboard.press("j")
    page.keyboard.press("3")
    page.keyboard.press("n")
    page.keyboard.type("どちらも <b>短い</b>")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("1")
    page.keyboard.press("1")  # taken back
    page.reload()
    page.wait_for_selector(".side")

    assert "2 of 6 judged" in page.inner_text(".top")
    value = exported(page)
    assert [source["model"] for source in value["sources"]] == ["phi-4", "output"]
    assert [(one["place"], one["rows"], one["verdict"], one["best"], one["note"], one["order"]) for one in value["judgements"]] == [
        (0, [0, 0], "better", 1, "", [0, 1]),
        (1, [1, 1], "tie", None, "どちらも <b>短い</b>", [0, 1]),
    ]
    assert value["judgements"][0]["question"] == QUESTIONS[0]
    page.select_option("select[aria-label=Judgement]", "no")
    listed(page, 4)


def test_what_is_judged_on_the_page_becomes_pairs(page: "Page", comparison: Path, tmp_path: Path) -> None:
    """From a key to a line that a trainer reads."""
    page.keyboard.press("2")
    (tmp_path / "judged.json").write_text(json.dumps(exported(page)))
    desk = Desk(comparison.parent / "home", Console(quiet=True), False)

    pairs([], PairOptions(judgements=tmp_path / "judged.json"), tmp_path / "pairs.jsonl", desk)

    (pair,) = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert pair["why"] == "judged better"
    assert "「春」" in pair["chosen"][0]["content"]
    assert "同じことです。" in pair["rejected"][0]["content"]


def test_judgements_go_from_one_browser_to_another(page: "Page", browser: "Browser", comparison: Path, tmp_path: Path) -> None:
    """As a file, and inside a saved page, which is a page like the first."""
    page.keyboard.press("1")
    path = tmp_path / "judgements.json"
    value = exported(page)
    strange = value["judgements"][0] | {"digest": "0" * 12}
    path.write_text(json.dumps(value | {"judgements": [*value["judgements"], strange]}), encoding="utf-8")
    with page.expect_download() as download:
        page.click("#save-page")
    saved = tmp_path / "saved.html"
    download.value.save_as(saved)

    for address, has in ((comparison, 0), (saved, 1)):
        context = browser.new_context()
        other = context.new_page()
        other.goto(address.as_uri())
        other.wait_for_selector(".side")
        assert f"{has} of 6 judged" in other.inner_text(".top")
        with other.expect_file_chooser() as chooser:
            other.evaluate("document.getElementById('import').click()")
        chooser.value.set_files(path)
        other.wait_for_selector(".told.shown")
        assert "about other replies" in other.inner_text(".told")
        assert "1 of 6 judged" in other.inner_text(".top")
        context.close()


def test_blind_judging_shows_no_name_and_always_shuffles_alike(page: "Page") -> None:
    page.keyboard.press("b")
    for _ in QUESTIONS:
        shown(page)
        assert texts(page, ".side h2 .name") == ["Reply A", "Reply B"]
        assert "phi-4" not in page.inner_text("body")
        page.keyboard.press("1")
        page.keyboard.press("j")
    firsts = [one["best"] for one in exported(page)["judgements"]]

    assert set(firsts) == {0, 1}
    assert all(one["order"][0] == one["best"] and one["blind"] for one in exported(page)["judgements"])
    page.reload()
    page.wait_for_selector(".side")
    assert texts(page, ".side h2 .name") == ["Reply A", "Reply B"]
    assert page.locator(".side.best").get_attribute("data-position") == "1"


def test_blind_judging_shows_nothing_that_only_one_source_has(browser: "Browser", tmp_path: Path) -> None:
    """Tokens, samples, raw texts and errors are a run's; what Kotae wrote beside an answer is that answer's; and the tab has a name too."""
    rows = [[f"q{n}", f"theirs {n}", ["answered", "truncated"][n % 2], "30", ["x", "y"][n % 2]] for n in range(4)]
    path = save_workbook(tmp_path / "a.xlsx", {"s": [["question", "answer", "finish_reason", "output_tokens (m)", "field"], *rows]})
    with begin_run(tmp_path, path) as store:
        run_id = store.manifest.run_id
        given = [answered(0, tagged("one"), tagged("two"), run_id=run_id), answered(1, "no tags", run_id=run_id)]
        store.store([*given, unanswered(2, error="phi-4 is gone", run_id=run_id), answered(3, tagged("four"), run_id=run_id)])
    context = browser.new_context()
    page = context.new_page()
    page.goto(write(tmp_path, tmp_path / "c.html", f"{path}:answer", "last").as_uri())
    page.wait_for_selector(".side")
    open_texts = page.inner_text("body")
    page.select_option("select[data-column=finish_reason]", label="truncated (2)")
    listed(page, 2)

    page.keyboard.press("b")
    listed(page, 4)
    blind_texts = page.title()
    for place in range(4):
        page.evaluate(f"location.hash = '#{place + 1}'")
        page.wait_for_selector(f"main[data-place='{place}'] .side")
        blind_texts += page.inner_text("body")
    context.close()

    assert "tokens" in open_texts
    assert "Sample" in open_texts
    assert not [word for word in ("phi-4", "token", "Sample", "Whole reply", "finish", "is gone") if word in blind_texts]
    assert "field" in blind_texts


def test_a_browser_without_room_says_that_it_keeps_nothing(page: "Page") -> None:
    """What is judged stays on the page, and can still be exported."""
    fill = "for (let size = 1 << 22; size; size >>= 1) try { for (;;) localStorage.setItem(Math.random(), 'x'.repeat(size)); } catch {}"
    page.evaluate(fill)
    page.keyboard.press("1")

    assert "keeps nothing: export before you close" in page.inner_text(".top")
    assert [one["verdict"] for one in exported(page)["judgements"]] == ["better"]


def test_hostile_replies_run_nothing_and_load_nothing(browser: "Browser", tmp_path: Path) -> None:
    """As question, column, header, name of a model, reasoning and answer; shown, unfolded, searched for and hovered over."""
    header = [
        "question",
        "</title><script>struck()</script>",
        "answer (<img src=x onerror=struck()>)",
        "reasoning (<img src=x onerror=struck()>)",
    ]
    one = save_workbook(tmp_path / "a.xlsx", {"s": [header, *[[text, text, text, text] for text in HOSTILE]]})
    out = write(tmp_path, tmp_path / "c.html", f"{one}:{header[2]}", f"{one}:{header[1]}", f"{one}:{header[3]}")
    context = browser.new_context()
    page = context.new_page()
    struck: list[str] = []
    asked: list[str] = []
    page.expose_function("struck", lambda: struck.append(page.url))
    page.on("dialog", lambda dialog: struck.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "blob:")) else None)
    context.on("page", lambda other: asked.append(other.url))
    page.goto(out.as_uri())
    page.wait_for_selector(".side")
    page.keyboard.press("r")

    for place, text in enumerate(HOSTILE):
        assert shown(page) == place
        page.wait_for_selector("details[open] .text")
        for element in page.locator(".text a, .text [onclick], .link, .picture").all():
            element.click(force=True)
        assert page.locator("main :is(a, img, svg, iframe, script, style, form, input, object, link, [style*=url])").count() == 0, text
        page.keyboard.press("j")
    page.fill("input[type=search]", "struck")
    page.wait_for_selector(f".list:not([data-count='{len(HOSTILE)}'])")

    assert len(HOSTILE) >= 40
    assert struck == []
    assert asked == []
    assert page.evaluate("document.title").startswith("<img src=x onerror=struck()>")
    context.close()


def test_a_page_opens_whatever_its_answers_are(browser: "Browser", tmp_path: Path) -> None:
    """A million characters, the other direction, half a pair of surrogates, marks that no parser of Markdown likes."""
    hard = [
        "長い。" * 30_000,
        "مرحبا **بالعالم**\n\n- واحد",
        "half \ud83d a pair \x07",
        "[" * 30_000,
        "> " * 5_000,
        "*a_ " * 3_000,
        "`" * 30_000,
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"question": f"q{n}", "": "", "a": text, "b": text[:9]}) + "\n" for n, text in enumerate(hard)))
    out = write(tmp_path, tmp_path / "c.html", f"{path}:a", f"{path}:b")
    context = browser.new_context()
    page = context.new_page()
    page.goto(out.as_uri())
    page.wait_for_selector(".side")

    for place in range(len(hard)):
        assert shown(page) == place
        assert page.locator(".side .text").count() == 2
        page.keyboard.press("j")
    page.keyboard.press("k")
    context.close()
