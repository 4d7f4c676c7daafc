"""Whether an engine says the same on two machines: prompt ids and the first greedy tokens of 256 questions, by Kotae's own engine.

python -m benchmarks.first_tokens --out cpu.json                      # on the one
python -m benchmarks.first_tokens --out gpu.json                      # on the other
python -m benchmarks.first_tokens --compare cpu.json gpu.json
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from workers.contract.messages import ChatMessage, Sampling
from workers.engines import open_engine
from workers.settings import WorkerSettings

from .arguments import add_engine, at_least_one
from .fleet import machine, today

_THINGS = ["water", "a volcano", "the moon", "rice", "a bridge", "music", "salt", "the heart"]
_THINGS += ["雪", "富士山", "時計", "お茶", "電車", "言葉", "海", "数学"]
_QUESTIONS = ["What is {}?", "Why do people need {}?", "Write one line about {}.", "How would you explain {} to a child?"]
_QUESTIONS += ["Name three facts about {}.", "Is {} old?", "What is the opposite of {}?", "Count to three, then say {}."]
_QUESTIONS += ["{}とは何ですか。", "{}について一文で書いてください。", "なぜ{}が必要ですか。", "{}を英語で説明してください。"]
_QUESTIONS += ["Which colour has {}?", "Where do you find {}?", "Who made {}?", "Tell me a joke about {}."]


def main() -> None:
    """Ask, or compare two files of earlier answers."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path)
    add_engine(options)
    options.add_argument("--tokens", type=at_least_one, default=8)
    options.add_argument("--compare", type=Path, nargs=2)
    given = options.parse_args()
    if given.compare:
        one, other = (json.loads(path.read_text()) for path in given.compare)
        print(json.dumps(_compare(one, other)))
        return
    settings = WorkerSettings(model=given.model, engine=given.engine, engine_args=dict(given.engine_args))
    given.out.write_text(json.dumps(asyncio.run(_ask(settings, given.tokens))))


async def _ask(settings: WorkerSettings, tokens: int) -> dict[str, Any]:
    engine = open_engine(settings)
    identity = await engine.start()
    sampling = Sampling(temperature=0, max_tokens=tokens)
    texts = [question.format(thing) for question in _QUESTIONS for thing in _THINGS]
    asked = (engine.generate(str(row), [ChatMessage(role="user", content=text)], sampling, None) for row, text in enumerate(texts))
    rows = [[generation.prompt_token_ids, generation.samples[0].token_ids] for generation in await asyncio.gather(*asked)]
    await engine.close()
    return {
        "machine": machine(),
        "date": today(),
        "engine": identity.engine,
        "dtype": identity.dtype,
        "versions": identity.versions,
        "rows": rows,
    }


def _compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    pairs = list(zip(one["rows"], other["rows"], strict=True))
    told = {name: [one[name], other[name]] for name in ("machine", "engine", "dtype", "date")}
    same = {"prompts_equal": sum(a[0] == b[0] for a, b in pairs), "first_tokens_equal": sum(a[1] == b[1] for a, b in pairs)}
    return {"benchmark": "first_tokens"} | told | {"rows": len(pairs)} | same


if __name__ == "__main__":
    main()
