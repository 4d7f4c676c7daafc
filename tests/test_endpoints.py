"""What `--engine openai` makes of an endpoint that limits, fails, cuts off, dawdles, or is not what it should be."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import free_port, question
from tests.endpoint import Endpoint, Handler, endpoint, refuses, well
from workers.answering import answer_question
from workers.contract.errors import UserError
from workers.contract.messages import Answer, ModelIdentity, Outcome, Question, ReplyFormat
from workers.engines import open_engine
from workers.settings import WorkerSettings


@pytest.fixture
def api() -> Iterator[Endpoint]:
    """An endpoint that answers as one should, unless it is told otherwise."""
    with endpoint() as server:
        yield server


class Worker:
    """The engine on the endpoint, for one test."""

    def __init__(self, url: str, key: str = "", model: str = "big", **args: Any) -> None:
        key_given = {"OPENAI_API_KEY": key} if key else {}
        settings = WorkerSettings(engine="openai", model=model, engine_args={"base_url": url, **args}, **key_given)
        self.engine = open_engine(settings)

    def ask(self, *questions: Question) -> list[Answer]:
        async def all_at_once() -> list[Answer]:
            self.identity = await self.engine.start()
            try:
                return await asyncio.gather(*(answer_question(one, self.engine) for one in questions))
            finally:
                await self.engine.close()

        return asyncio.run(all_at_once())


def after_the_start(server: Endpoint, *script: Any) -> None:
    """Let the first question, the canary, be answered well, and what comes after it as the script says."""
    server.script = [well(), *script]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY_FILE", raising=False)


class Busy:
    """Takes so many requests at once, and answers all others with 429."""

    def __init__(self, room: int) -> None:
        self._room, self._here, self._lock = room, 0, threading.Lock()
        self.refused = 0

    def __call__(self, handler: Handler, body: dict[str, Any]) -> None:
        with self._lock:
            enters = self._here < self._room
            self._here += enters
            self.refused += not enters
        if not enters:
            refuses(429, "too many", retry_after_ms="100")(handler, body)
            return
        time.sleep(0.02)  # a reply takes its time
        with self._lock:
            self._here -= 1
        well()(handler, body)


def test_a_storm_of_429_fails_no_row_and_slows_the_worker_down(api: Endpoint) -> None:
    """The rows come together; the endpoint takes 4 at a time."""
    busy = Busy(4)
    api.otherwise = busy

    answers = Worker(api.url).ask(*[question(row=row) for row in range(60)])

    assert {answer.outcome for answer in answers} == {Outcome.ANSWERED}
    assert 0 < busy.refused < 300  # one by one the endpoint would be asked in vain for thousands of times


def test_a_row_does_not_pay_for_the_time_in_which_the_endpoint_wants_quiet(api: Endpoint) -> None:
    """A quota is used up for an hour, and a row has half of one."""
    after_the_start(api, refuses(429, retry_after="2.5"))

    (answer,) = Worker(api.url).ask(question(row_timeout=2))

    assert answer.outcome is Outcome.ANSWERED
    assert answer.seconds >= 2.5


def test_a_quota_that_is_used_up_fails_rows_with_its_cause(api: Endpoint) -> None:
    """It does not pass by itself, and a run that waits for ever tells nobody why."""
    after_the_start(api, refuses(429, "check your plan", "insufficient_quota"))

    (answer,) = Worker(api.url).ask(question())

    assert answer.outcome is Outcome.FAILED
    assert "check your plan" in (answer.error or "")


def lost(handler: Handler, body: dict[str, Any]) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def cut_off(handler: Handler, body: dict[str, Any]) -> None:
    """Lose the connection in the middle of a reply."""
    handler.reply(200, {"choices": [{"index": 0, "message": {"content": "half"}}]}, cut=10)


def html(handler: Handler, body: dict[str, Any]) -> None:
    """Answer as a proxy does behind which nobody is."""
    handler.reply(200, "<html>sorry</html>", kind="text/html")


def half_json(handler: Handler, body: dict[str, Any]) -> None:
    handler.reply(200, '{"choices": [')


def no_choices(handler: Handler, body: dict[str, Any]) -> None:
    handler.reply(200, {"error": {"message": "the provider behind us failed"}})


@pytest.mark.parametrize("fault", [refuses(500), refuses(503, retry_after="0"), refuses(408), lost, cut_off, html, half_json, no_choices])
def test_what_passes_is_asked_again(api: Endpoint, fault: Any) -> None:
    """Half a reply is none."""
    after_the_start(api, fault)

    (answer,) = Worker(api.url).ask(question())

    assert (answer.outcome, answer.completions[0].answer) == (Outcome.ANSWERED, "a")
    assert len(api.asked) == 3


def test_what_does_not_pass_within_the_rows_time_fails_the_row_with_its_cause(api: Endpoint) -> None:
    """Not "no reply": somebody must know whom to ask."""
    after_the_start(api)
    api.otherwise = refuses(500, "the disk is full")

    began = time.monotonic()
    (answer,) = Worker(api.url).ask(question(row_timeout=3))

    assert answer.outcome is Outcome.FAILED
    assert "the disk is full" in (answer.error or "")
    assert time.monotonic() - began < 30


def test_a_slow_reply_times_the_row_out(api: Endpoint) -> None:
    """And the worker goes on."""
    let_go = threading.Event()

    def slow(handler: Handler, body: dict[str, Any]) -> None:
        let_go.wait()

    after_the_start(api, slow)

    (answer,) = Worker(api.url).ask(question(row_timeout=0.3))
    let_go.set()

    assert answer.outcome is Outcome.TIMED_OUT


def test_a_row_that_is_refused_is_rejected_at_once(api: Endpoint) -> None:
    """Asking again is paid for again."""
    after_the_start(api, refuses(400, "This model's maximum context length is 10 tokens", "context_length_exceeded"))

    (answer,) = Worker(api.url).ask(question())

    assert answer.outcome is Outcome.REJECTED
    assert "too long" in (answer.error or "")
    assert len(api.asked) == 2


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(
    ("reply_format", "content", "finish", "reads"),
    [
        ("reasoning-answer", "42", "stop", ("I <answer> think", "42", "answered")),
        ("reasoning-answer", "<answer>42</answer>", "stop", ("I <answer> think", "42", "answered")),
        ("reasoning-answer", "<reasoning>so</reasoning><answer>42</answer>", "stop", ("so", "42", "answered")),
        ("reasoning-answer", None, "length", ("I <answer> think", "ANSWER not found", "truncated")),
        ("think", "42", "stop", ("I <answer> think", "42", "answered")),
        ("think", None, "length", ("I <answer> think", "ANSWER not found", "truncated")),
        ("plain", "42", "stop", ("", "42", "answered")),
    ],
)
def test_reasoning_given_apart_reads_as_reasoning(
    api: Endpoint, field: str, reply_format: str, content: str | None, finish: str, reads: tuple[str, ...]
) -> None:
    """A model that keeps both apart by itself has kept the format; what it thought of tags is none of the reply."""
    after_the_start(api, well(content, finish, **{field: "I <answer> think"}))

    (answer,) = Worker(api.url).ask(question(reply_format=ReplyFormat(reply_format)))

    read = answer.completions[0]
    assert (read.reasoning.replace("‹", "<").replace("›", ">"), read.answer, str(read.outcome)) == reads


def message(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": "hi", **fields}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (message(content=[{"type": "thinking"}, {"type": "text", "text": "by "}, {"type": "text", "text": "parts"}]), "by parts"),
        (message(content=3), ""),
        (message(content="half \ud83d"), "half \ufffd"),
        (message(reasoning_content=["x"]), "hi"),
        (message() | {"usage": {"prompt_tokens": 10**12, "completion_tokens": -1}}, "hi"),
        (message() | {"usage": "none"}, "hi"),
        ({"choices": [{"message": {"content": "hi"}, "index": "a", "finish_reason": 5, "token_ids": 7}]}, "hi"),
    ],
)
def test_a_reply_counts_whatever_is_odd_about_what_tells_of_it(api: Endpoint, body: Any, text: str) -> None:
    """It is paid for; and no count may take the worker's memory."""
    after_the_start(api, lambda handler, _: handler.reply(200, body))

    (answer,) = Worker(api.url).ask(question())

    assert [one.text for one in answer.completions] == [text]


@pytest.mark.parametrize(
    "body",
    ["null", "[" * 100_000, '"x"', *({"choices": choices} for choices in (None, "abc", [None], [1], [{}], [{"message": "hi"}], {"a": 1}))],
    ids=str,
)
def test_what_is_no_reply_fails_the_row_and_not_the_worker(api: Endpoint, body: Any) -> None:
    """Whatever JSON there is."""
    after_the_start(api, lambda handler, _: handler.reply(200, body), well())

    failed, answer = [Worker(api.url).ask(question(row_timeout=0.4))[0], Worker(api.url).ask(question())[0]]

    assert failed.outcome is Outcome.FAILED
    assert "a reply without choices" in (failed.error or "")
    assert answer.outcome is Outcome.ANSWERED


@pytest.mark.parametrize("finish", ["error", "abort"])
def test_a_reply_that_was_given_up_is_asked_for_again(api: Endpoint, finish: str) -> None:
    """Half a reply with a 200 before it, as gateways send it when what is behind them fails."""
    after_the_start(api, well("<reasoning>\nhal", finish), well())

    (answer,) = Worker(api.url).ask(question())

    assert answer.outcome is Outcome.ANSWERED


def test_a_row_whose_replies_are_always_given_up_is_not_asked_for_ever(api: Endpoint) -> None:
    """Each of them may have been written in full before, and is charged then; and a row has half an hour."""
    after_the_start(api, *[well("<reasoning>\nhal", "error")] * 4, well())

    failed, answer = [Worker(api.url).ask(question())[0] for _ in range(2)]

    assert failed.outcome is Outcome.FAILED
    assert "failed 4 times in the middle of its reply, last: a reply that was given up before its end (finish reason error)" in (
        failed.error or ""
    )
    assert answer.outcome is Outcome.ANSWERED


SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    "fault",
    [
        lambda handler, _: handler.reply(200, {"error": {"message": f"wrong key {SECRET}"}}),
        lambda handler, _: handler.reply(200, {"error": SECRET}),
        lambda handler, _: handler.reply(400, SECRET, kind="text/plain"),
        lambda handler, _: handler.reply(400, {"error": SECRET}),
        refuses(400, "x" * 290 + SECRET),
        refuses(401, SECRET),
        refuses(429, SECRET, "insufficient_quota"),
        refuses(503, SECRET),
    ],
)
def test_a_key_that_an_endpoint_repeats_is_in_no_answer_and_no_log(api: Endpoint, fault: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nor a part of it: both are kept, and shown to others."""
    caplog.set_level(logging.DEBUG)
    after_the_start(api, fault, fault)

    (answer,) = Worker(api.url, key=SECRET).ask(question(row_timeout=1))

    assert answer.outcome in (Outcome.FAILED, Outcome.REJECTED)
    assert SECRET[:8] not in answer.model_dump_json() + caplog.text


@pytest.mark.parametrize("models", [[], "abc", [1], [{"id": None}], [{"id": "big", "max_model_len": "x"}], {"a": 1}])
def test_an_odd_list_of_models_keeps_nobody_from_asking(api: Endpoint, models: Any) -> None:
    """The endpoint is taken at its word when it is asked."""
    api.cards = models

    (answer,) = Worker(api.url).ask(question())

    assert answer.outcome is Outcome.ANSWERED


def test_an_endpoint_gets_only_what_openai_has_names_for(api: Endpoint) -> None:
    """Many refuse a field that they do not know."""
    (answer,) = Worker(api.url).ask(question("one two three", seed=7, stop=("x",), presence_penalty=0.5))

    assert api.asked[1] == {
        "model": "big",
        "messages": [{"role": "user", "content": "one two three"}],
        "max_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.95,
        "seed": 7,
        "stop": ["x"],
        "presence_penalty": 0.5,
    }
    assert (answer.prompt_tokens, answer.completions[0].output_tokens) == (3, 6)


def test_what_openai_has_not_is_refused_where_it_would_be_ignored_and_sent_where_it_is_known(api: Endpoint) -> None:
    """A parameter that is accepted and ignored is worse than one that is refused."""
    (refused,) = Worker(api.url).ask(question(top_k=5))
    (taken,) = Worker(api.url, vllm=True).ask(question(top_k=5))

    assert refused.outcome is Outcome.REJECTED
    assert "top_k" in (refused.error or "")
    assert taken.outcome is Outcome.ANSWERED
    assert api.asked[-1]["top_k"] == 5


def test_a_format_is_not_enforced_by_who_cannot(api: Endpoint) -> None:
    """It would be asked for, and not kept."""
    worker = Worker(api.url)
    (answer,) = worker.ask(question(enforce_format=ReplyFormat.REASONING_ANSWER))

    assert answer.outcome is Outcome.REJECTED
    assert not worker.identity.enforces_format
    assert len(api.asked) == 1


def test_several_samples_are_asked_for_until_they_are_there(api: Endpoint) -> None:
    """Some endpoints give one reply however many are wanted."""
    (answer,) = Worker(api.url).ask(question(n=3, seed=5))

    assert len(answer.completions) == 3
    assert [(one.get("n", 1), one["seed"]) for one in api.asked[1:]] == [(3, 5), (2, 6), (1, 7)]


def test_an_endpoint_that_wants_max_completion_tokens_gets_them(api: Endpoint) -> None:
    """OpenAI's own does, of its reasoning models."""
    api.script = [refuses(400, "use max_completion_tokens", "unsupported_parameter", "max_tokens")]

    Worker(api.url).ask(question())

    assert "max_tokens" not in api.asked[-1]
    assert api.asked[-1]["max_completion_tokens"] == 16


def test_fields_are_left_out_and_added_as_told(api: Endpoint) -> None:
    """Reasoning models refuse a temperature, and want to be told how long to think."""
    Worker(api.url, omit="temperature,top_p", extra_body={"reasoning_effort": "high"}).ask(question())

    assert {"temperature", "top_p"}.isdisjoint(api.asked[-1])
    assert api.asked[-1]["reasoning_effort"] == "high"


def test_the_identity_names_model_and_host_and_no_key(api: Endpoint) -> None:
    """What was run must be told later, to whomever."""
    api.key = "sk-secret"
    worker = Worker(api.url, key="sk-secret", price_in=1.5)
    worker.ask()

    identity: ModelIdentity = worker.identity
    assert (identity.engine, identity.weights) == ("openai", "")
    assert identity.model == f"big@{api.url.split('/')[2]}"
    assert identity.canary.startswith("<reasoning>")
    assert "sk-secret" not in identity.model_dump_json()


def html_everywhere(api: Endpoint) -> str:
    api.models, api.otherwise = None, html
    return api.url


@contextmanager
def refused_at_start(says: str) -> Iterator[None]:
    with pytest.raises(UserError, match=says) as error:
        yield
    assert "\n" not in str(error.value)
    assert "sk-" not in str(error.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"model": "bog"}, "no model bog .* did you mean big"),
        ({"model": "else"}, "no model else .* it has: big, small"),
        ({"colour": 1}, "openai knows base_url"),
        ({"omit": "messages"}, "messages cannot be left out"),
        ({"base_url": ""}, "name the endpoint with --base-url"),
        ({"base_url": "ftp://x/v1"}, "--base-url must be an address"),
        ({"base_url": "https://me:sk-1@host/v1"}, "put the key into OPENAI_API_KEY"),
    ],
)
def test_a_setting_that_cannot_be_is_told_at_start(api: Endpoint, args: dict[str, Any], says: str) -> None:
    with refused_at_start(says):
        Worker(**({"url": api.url} | {"url" if key == "base_url" else key: value for key, value in args.items()})).ask()


@pytest.mark.parametrize(("key", "says"), [("", "it wants a key"), ("sk-wrong", "set the right key .*401: Incorrect API key provided")])
def test_a_wrong_key_is_told_at_start_and_not_shown(api: Endpoint, key: str, says: str) -> None:
    """Some endpoints repeat the key in their message."""
    api.key = "sk-right"
    with refused_at_start(says):
        Worker(api.url, key=key).ask()


def test_an_endpoint_that_is_not_there_is_told_at_start() -> None:
    with refused_at_start("nobody answers at http://127.0.0.1"):
        Worker(f"http://127.0.0.1:{free_port()}/v1").ask()


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (refuses(404, "Not Found"), "is --base-url right up to /v1"),
        (refuses(400, "temperature must be 1", "unsupported_value", "temperature"), "omit=temperature"),
    ],
)
def test_an_endpoint_that_refuses_the_first_question_is_told_at_start(api: Endpoint, behaviour: Any, says: str) -> None:
    """Not by a thousand rows."""
    api.models, api.otherwise = None, behaviour
    with refused_at_start(says):
        Worker(api.url).ask()
