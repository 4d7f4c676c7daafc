"""Prompts that are rendered together are those that would be rendered one by one."""

import asyncio
from typing import Any

import pytest

from workers.contract.errors import Rejected, UserError
from workers.contract.messages import ChatMessage

# vLLM is imported here, which warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")

#: The demo model's own format; refuses a system prompt, as Gemma's does.
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system prompt') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


@pytest.fixture
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    from workers.engines.demo_model import demo_model_path

    return AutoTokenizer.from_pretrained(demo_model_path(), chat_template=NO_SYSTEM)


def template_of(tokenizer: Any) -> Any:
    from workers.engines.chat_template import ChatTemplate

    return ChatTemplate(tokenizer, "demo")


def conversation(text: str, *, system: str = "") -> tuple[ChatMessage, ...]:
    return (*([ChatMessage(role="system", content=system)] if system else []), ChatMessage(role="user", content=text))


async def rendered(template: Any, conversations: list[tuple[ChatMessage, ...]]) -> list[list[int] | BaseException]:
    return await asyncio.gather(*map(template.render_soon, conversations), return_exceptions=True)


@pytest.mark.parametrize("number", [1, 2, 100])
def test_rendered_together_is_rendered_one_by_one(tokenizer: Any, number: int) -> None:
    """Of any length, in any script, and in the order in which they were asked."""
    template = template_of(tokenizer)
    conversations = [conversation("数字 ü 🎉 " * (row % 7) + str(row)) for row in range(number)]

    together = asyncio.run(rendered(template, conversations))

    assert together == [template.render(one) for one in conversations]


def test_one_that_is_refused_refuses_no_other(tokenizer: Any) -> None:
    """A row's mistake is that row's alone."""
    template = template_of(tokenizer)
    conversations = [conversation("a"), conversation("b", system="Be brief."), conversation("c")]

    first, refused, last = asyncio.run(rendered(template, conversations))

    assert [first, last] == [template.render(conversations[0]), template.render(conversations[2])]
    assert isinstance(refused, Rejected)
    assert "no system prompt" in str(refused)


@pytest.mark.parametrize("way", ["takes the last of several for the only one", "fills up to the longest"])
def test_a_tokenizer_with_a_way_of_its_own_is_asked_for_one_at_a_time(tokenizer: Any, way: str) -> None:
    """Some models bring a tokenizer of their own."""
    usual = tokenizer.apply_chat_template

    def takes_one(conversation: Any, **options: Any) -> Any:
        return usual([conversation[-1]], **options)

    def fills_up(conversations: Any, **options: Any) -> Any:
        return usual(conversations, padding=True, **options)

    tokenizer.apply_chat_template = takes_one if way.startswith("takes") else fills_up
    template = template_of(tokenizer)
    conversations = [conversation(text) for text in ("a", "a longer one", "c")]

    assert asyncio.run(rendered(template, conversations)) == [template.render(one) for one in conversations]


def test_a_row_that_is_cancelled_while_it_waits_costs_the_others_nothing(tokenizer: Any) -> None:
    """Deadlines and cancelled runs come at any moment."""
    template = template_of(tokenizer)

    async def cancel_the_first() -> list[int]:
        first, second = (asyncio.ensure_future(template.render_soon(conversation(text))) for text in "ab")
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(cancel_the_first()) == template.render(conversation("b"))


def test_a_model_without_a_template_is_refused(tokenizer: Any) -> None:
    """Before the first row."""
    tokenizer.chat_template = None

    with pytest.raises(UserError, match="demo has no usable chat template"):
        template_of(tokenizer)
