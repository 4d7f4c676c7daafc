"""What every engine must do alike: one suite, run on each of them."""

import asyncio
import gc
import json
import os
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually, question
from workers import metrics
from workers.answering import answer_question
from workers.contract.errors import UserError
from workers.contract.messages import Answer, ChatMessage, Outcome, Question, ReplyFormat
from workers.engines import Engine, open_engine
from workers.engines.ledger import LedgerEngine
from workers.settings import WorkerSettings

# What vLLM warns of while an enforced format runs on a CPU.
pytestmark = [
    pytest.mark.filterwarnings("ignore:max_rollback_tokens is deprecated:DeprecationWarning"),
    # Cancelled while it connects, the HTTP client leaves the new connection to Python, which closes it
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _nothing_unclosed_is_left_to_other_tests() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


class Bench:
    """An engine on its loop, and questions to it."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, is_exact: bool = True) -> None:
        self.engine, self._loop = engine, loop
        #: Whether it calculates in float32, where no row differs by who shares its batch.
        self.is_exact = is_exact

    def ask(self, *questions: Question) -> list[Answer]:
        """Have all questions answered at once."""

        async def all_at_once() -> list[Answer]:
            return await asyncio.gather(*(answer_question(one, self.engine) for one in questions))

        return asyncio.run_coroutine_threadsafe(all_at_once(), self._loop).result(300)

    def begin(self, one: Question) -> Any:
        """Begin to answer, and return the future that may be cancelled."""
        return asyncio.run_coroutine_threadsafe(answer_question(one, self.engine), self._loop)


@pytest.fixture
def echo(engine_loop: asyncio.AbstractEventLoop) -> Bench:
    """The echo engine; slow enough to be interrupted."""
    engine = open_engine(WorkerSettings(engine="echo", engine_args={"delay": 0.3, "delay_spread": 0.1}))
    asyncio.run_coroutine_threadsafe(engine.start(), engine_loop).result()
    return Bench(engine, engine_loop)


@pytest.fixture
def asynchronous(vllm_life: Any) -> Bench:
    """vLLM with the demo model, as `--engine vllm` runs it."""
    return Bench(vllm_life.engine, vllm_life._loop)


@pytest.fixture
def synchronous(sync_engine: Any, engine_loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Bench:
    """vLLM with the demo model, as `--engine unsloth` runs it."""
    return Bench(LedgerEngine(sync_engine[0], tmp_path / "sync-ledger"), engine_loop)


@pytest.fixture
def endpoint(endpoint_engine: Any, engine_loop: asyncio.AbstractEventLoop) -> Bench:
    """The demo model behind a `vllm serve`, as `--engine openai` asks it."""
    return Bench(endpoint_engine, engine_loop)


@pytest.fixture
def unsloth(unsloth_engine: Any, engine_loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Bench:
    """The demo model as Unsloth loads it."""
    return Bench(LedgerEngine(unsloth_engine[0], tmp_path / "unsloth-ledger"), engine_loop, is_exact=False)


#: Unsloth changes vLLM while it is imported, so no other engine may run beside it: TEST_ENGINES=unsloth, on a machine with a GPU.
WITH_A_MODEL = os.environ.get("TEST_ENGINES", "asynchronous,synchronous,endpoint").split(",")


@pytest.fixture(params=[name for name in WITH_A_MODEL if name != "endpoint"])
def inside(request: pytest.FixtureRequest) -> Bench:
    """Each engine that has the model in hand."""
    made: Bench = request.getfixturevalue(request.param)
    return made


@pytest.fixture(params=WITH_A_MODEL)
def vllm(request: pytest.FixtureRequest) -> Bench:
    """Each engine that has a model."""
    made: Bench = request.getfixturevalue(request.param)
    return made


@pytest.fixture(params=["echo", *WITH_A_MODEL])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Each engine in turn."""
    made: Bench = request.getfixturevalue(request.param)
    return made


def test_many_rows_share_the_engine(bench: Bench) -> None:
    """Each answer is that of its own question, whoever finishes first."""
    questions = [question(f"Say {row}.", row=row, max_tokens=8) for row in range(32)]

    answers = bench.ask(*questions)

    assert [answer.row for answer in answers] == list(range(32))
    assert all(answer.completions for answer in answers)


def test_a_row_that_takes_too_long_times_out_and_leaves_the_engine_alive(bench: Bench) -> None:
    """The deadline runs from when the engine takes the row, and aborts it there."""
    (late,) = bench.ask(question("Tell a long story.", row_timeout=0.05, max_tokens=1000, ignore_eos=True))
    (after,) = bench.ask(question())

    assert (late.outcome, late.completions) == (Outcome.TIMED_OUT, ())
    assert "0.05 s" in (late.error or "")
    assert after.completions


def test_a_cancelled_row_leaves_the_engine_alive(bench: Bench) -> None:
    """A drain cancels hundreds at once."""
    running = [bench.begin(question("Tell a long story.", row=row, max_tokens=1000, ignore_eos=True)) for row in range(8)]
    for future in running:
        assert future.cancel()

    (after,) = bench.ask(question(row=99))

    assert after.completions


def test_an_unknown_adapter_rejects_the_row_and_never_reaches_the_engine(bench: Bench) -> None:
    """A bad adapter given to vLLM itself would kill it for every row."""
    (rejected,) = bench.ask(question(adapter="nobody"))
    (after,) = bench.ask(question())

    assert rejected.outcome is Outcome.REJECTED
    assert "nobody" in (rejected.error or "")
    assert after.completions


def test_several_samples_come_back_together(bench: Bench) -> None:
    """One row, one answer, as many completions as were asked for."""
    (answer,) = bench.ask(question(n=3, temperature=1.0))

    assert len(answer.completions) == 3


def test_the_ledger_counts_what_the_engine_generates(bench: Bench, tmp_path: Path) -> None:
    """The count must be the engine's own, or it proves nothing."""
    ledger = tmp_path / "ledger"
    counted = Bench(LedgerEngine(bench.engine, ledger), bench._loop)

    counted.ask(*[question(row=row) for row in range(3)])

    events = [line.split()[0] for line in ledger.read_text().splitlines()]
    assert (events.count("start"), events.count("end")) == (3, 3)


# What only an engine with a model can show.


def test_a_prompt_that_fills_the_model_is_rejected(vllm: Bench) -> None:
    """It can never work, so it is said at once and not tried again."""
    (answer,) = vllm.ask(question("word " * 3000))

    assert answer.outcome is Outcome.REJECTED
    assert "2048" in (answer.error or "")


def test_max_tokens_is_capped_to_the_room_the_prompt_leaves(vllm: Bench) -> None:
    """A long prompt gets a short reply instead of none."""
    (answer,) = vllm.ask(question("word " * 1980, max_tokens=2048, ignore_eos=True))

    assert answer.prompt_tokens is not None
    assert answer.prompt_tokens + answer.completions[0].output_tokens == 2048
    assert answer.outcome is Outcome.TRUNCATED


def test_more_prompts_than_one_step_can_read_do_no_harm(vllm: Bench) -> None:
    """vLLM on a CPU dies of a seeded row whose prompt it reads in two steps; here 24 rows want 3,000 tokens at once."""
    answers = vllm.ask(*[question(f"{row} " + "word " * 95, row=row, seed=row, max_tokens=2) for row in range(24)])

    assert all(answer.completions for answer in answers)


def test_the_same_seed_gives_the_same_reply_and_another_seed_another(vllm: Bench) -> None:
    """A run can be repeated; its rows are not copies of each other."""
    first, second, other = vllm.ask(
        *[question("Tell me a story.", row=row, temperature=1.5, max_tokens=24, seed=seed) for row, seed in enumerate([1, 1, 2])]
    )

    assert first.completions[0].text == second.completions[0].text != other.completions[0].text


@pytest.mark.parametrize(
    ("sampling", "holds"),
    [
        ({"max_tokens": 5, "ignore_eos": True}, lambda c: c.output_tokens == 5 and c.finish_reason == "length"),
        ({"max_tokens": 40, "min_tokens": 40}, lambda c: c.output_tokens == 40),
        ({"stop": ("e",), "max_tokens": 40}, lambda c: "e" not in c.text),
        ({"temperature": 0, "repetition_penalty": 2.0, "max_tokens": 24}, lambda c: bool(c.text)),
        ({"top_k": 1, "temperature": 2.0, "max_tokens": 12}, lambda c: bool(c.text)),
        ({"presence_penalty": 1.0, "frequency_penalty": 1.0, "min_p": 0.1, "max_tokens": 12}, lambda c: bool(c.text)),
    ],
)
def test_all_of_sampling_reaches_vllm(vllm: Bench, sampling: dict[str, Any], holds: Any) -> None:
    """A parameter that is accepted and ignored is worse than one that is refused."""
    (answer,) = vllm.ask(question("Tell me about the sea.", **sampling))

    assert holds(answer.completions[0]), answer.completions[0]


def test_top_k_of_one_is_greedy_however_hot(vllm: Bench) -> None:
    """Shows that top_k arrives: at temperature 2 nothing else would give the greedy reply."""
    texts = [f"What is {thing}?" for thing in ("the sea", "a river", "snow", "salt", "music", "a bridge", "rice", "the moon")]
    greedy = [question(text, row=row, temperature=0, max_tokens=4) for row, text in enumerate(texts)]
    hot = [question(text, row=len(texts) + row, temperature=2.0, top_k=1, max_tokens=4) for row, text in enumerate(texts)]

    replies = [answer.completions[0].text for answer in vllm.ask(*greedy, *hot)]

    same = sum(a == b for a, b in zip(replies[: len(texts)], replies[len(texts) :], strict=True))
    assert same >= 6  # in bf16 some logits are equal, and any of those may be taken


@pytest.mark.parametrize("text", ["Why is the sky blue?", "日本で一番高い山は何ですか。", "Count: 1 2 3 4 5 6 7 8 9 0 " * 5, "🙂🙃 emoji?"])
def test_an_enforced_format_is_always_kept_and_always_closes(vllm: Bench, text: str) -> None:
    """Both parts are bounded in tokens: in no language may the tags be cut off."""
    asked = [
        question(text, row=row, seed=row, temperature=1.0, max_tokens=80, enforce_format=ReplyFormat.REASONING_ANSWER) for row in range(2)
    ]

    answers = vllm.ask(*asked)

    for completion in (answer.completions[0] for answer in answers):
        assert completion.outcome is Outcome.ANSWERED, completion.text
        assert completion.text.startswith("<reasoning>\n")
        assert completion.text.endswith("\n</answer>\n")


def test_enforcing_without_room_rejects_the_row(vllm: Bench) -> None:
    """Better than a reply that cannot close its tags."""
    (answer,) = vllm.ask(question("word " * 2000, enforce_format=ReplyFormat.REASONING_ANSWER, max_tokens=1000))

    assert answer.outcome is Outcome.REJECTED
    assert "enforce-format" in (answer.error or "")


def test_an_adapter_answers_as_the_merged_model_would_and_only_its_own_rows(vllm: Bench, adapter: Path) -> None:
    """vLLM's CPU code once gave rows without an adapter a part of their neighbours' when both shared a step."""
    text = "What is the sea?"
    from tests.adapter import merged_reply

    def ask(*adapters: str | None) -> list[str]:
        asked = [question(text, row=row, temperature=0, adapter=name) for row, name in enumerate(adapters)]
        return [answer.completions[0].text for answer in vllm.ask(*asked)]

    (plain,) = ask(None)
    mixed = ask(None, "tuned", None, "tuned")

    merged = merged_reply(adapter, text, 16)
    if vllm.is_exact:
        assert mixed == [plain, merged] * 2
    assert [reply[:8] for reply in mixed] == [plain[:8], merged[:8]] * 2
    assert plain != mixed[1]


@pytest.mark.parametrize("spoilt", [{"strength": 0.0}, {"inside": "decoder.blocks"}], ids=["all zero", "named for another model"])
def test_an_adapter_that_changes_nothing_is_refused_and_the_engine_lives(inside: Bench, tmp_path: Path, spoilt: dict[str, Any]) -> None:
    """vLLM takes an adapter whose names fit nothing without a word, and the base model answers under its name."""
    from tests.adapter import make_adapter

    engine: Any = inside.engine._engine  # type: ignore[attr-defined]
    engine._adapters["bad"] = make_adapter(tmp_path, **spoilt)

    async def add() -> None:
        base = [await engine._read_canary(f"test-{number}", None) for number in range(2)]
        await engine._add_adapter("bad", base)

    with pytest.raises(UserError, match="adapter bad changes nothing") as error:
        asyncio.run_coroutine_threadsafe(add(), inside._loop).result()
    del engine._adapters["bad"]
    assert "\n" not in str(error.value)
    assert inside.ask(question())[0].completions


@pytest.mark.parametrize(
    ("spoilt", "says"),
    [({"hidden": 512}, "is for another model: lora_A .* 8 x 512"), ({"rank": 16}, "says rank 8, and .* has rank 16")],
    ids=["of another width", "of another rank than it says"],
)
def test_an_adapter_of_another_shape_is_refused_before_the_model_is_loaded(
    vllm_life: Any, tmp_path: Path, spoilt: dict[str, Any], says: str
) -> None:
    """vLLM uses a part of an adapter that is made for a narrower model."""
    from tests.adapter import make_adapter

    with pytest.raises(UserError, match=says):
        open_engine(WorkerSettings(model="demo", adapters={"bad": str(make_adapter(tmp_path, **spoilt))}))


def unfinished(vllm: Bench) -> int:
    """Return vLLM's own count of the rows that it still has."""
    engine: Any = vllm.engine._engine  # type: ignore[attr-defined]
    if hasattr(engine, "_endpoint"):
        with urllib.request.urlopen(engine._args.base_url.removesuffix("/v1") + "/metrics") as page:
            lines = page.read().decode().splitlines()
        return sum(
            int(float(line.split()[-1])) for line in lines if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{"))
        )
    if hasattr(engine, "unfinished"):
        return int(engine.unfinished)
    return int(engine._engine.output_processor.get_num_unfinished_requests())


def test_an_engine_in_a_process_of_its_own_tells_how_full_its_cache_is(synchronous: Bench) -> None:
    """Under vLLM's own name, so that the same panel shows it; where vLLM serves metrics itself, it would be there twice."""
    counts = metrics._EngineCounts()
    counts.watched = synchronous.engine

    def usage() -> list[float]:
        return [sample.value for family in counts.collect() for sample in family.samples if sample.name == "vllm:kv_cache_usage_perc"]

    running = [synchronous.begin(question("story", row=row, max_tokens=1500, ignore_eos=True)) for row in range(8)]
    assert eventually(lambda: 0 < usage()[0] <= 1)
    for future in running:
        future.cancel()
    assert eventually(lambda: usage()[0] < 0.01)


def test_an_aborted_row_stops_generating(vllm: Bench) -> None:
    """A timed-out row that went on would eat the batch of the others."""
    began = time.monotonic()
    vllm.ask(*[question("story", row=row, row_timeout=0.2, max_tokens=1900, ignore_eos=True) for row in range(16)])

    assert eventually(lambda: unfinished(vllm) == 0)
    assert time.monotonic() - began < 60


def test_a_reply_that_vllm_gives_up_is_no_answer(asynchronous: Bench) -> None:
    """What there is of it would read like a model's own bad reply; asked again it may come to its end."""
    running = asynchronous.begin(question("Tell a long story.", max_tokens=1900, ignore_eos=True))
    vllm: Any = asynchronous.engine._engine._engine  # type: ignore[attr-defined]
    ids = eventually(lambda: list(vllm.output_processor.request_states))

    asyncio.run_coroutine_threadsafe(vllm.abort(ids, internal=True), asynchronous._loop).result()
    answer = running.result(60)

    assert (answer.outcome, answer.completions) == (Outcome.FAILED, ())
    assert "gave the reply up before its end (finish reason abort)" in answer.error


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "/nope"}, "no model at /nope"),
        ({"engine_args": {"max_num_seq": 3}}, "did you mean max_num_seqs"),
        ({"engine_args": {"model": "x"}}, "use --model"),
        ({"engine_args": {"gpu_memory_utilization": None}}, "None is not a share of the memory"),
        ({"adapters": {"mine": "/nope"}}, "adapter mine: there is no folder /nope"),
    ],
)
def test_what_vllm_cannot_load_is_said_in_one_line_before_loading(vllm_life: Any, settings: dict[str, Any], says: str) -> None:
    """Loading takes minutes; a typing error must not."""
    with pytest.raises(UserError, match=says) as error:
        open_engine(WorkerSettings(**{"model": "demo", **settings}))

    assert "\n" not in str(error.value)


def test_the_identity_names_the_weights(vllm_life: Any) -> None:
    """What was run must be told later."""
    identity = vllm_life._identity

    assert (identity.engine, identity.max_model_len) == ("vllm", 2048)
    assert len(identity.weights) == 16
    assert json.loads(identity.model_dump_json())["versions"]["torch"].startswith("2.")
    assert identity.canary
    assert identity.adapter_canaries["tuned"] not in ("", identity.canary)


def test_the_prompt_is_the_models_own_chat_template(inside: Bench) -> None:
    """Not ours: a model that was tuned on its template answers by no other."""
    engine = inside.engine._engine  # type: ignore[attr-defined]
    rendered = engine._tokenizer.decode(engine.chat_template.render([ChatMessage(role="user", content="Hi")]))

    assert rendered.startswith("<|im_start|>system\n")
    assert rendered.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_loading_and_answering_ask_nobody_on_the_network(synchronous: Bench, sync_engine: Any) -> None:
    """The same is asked of Unsloth itself where there is a GPU (test_unsloth.py)."""
    _, asked = sync_engine

    assert synchronous.ask(question())[0].completions
    assert asked() == []
