"""Offline vLLM or Unsloth, what Kotae is held against: a program of its own, since a process has one engine.

The first line of standard input is ``{"engine": "vllm", "model": ..., "engine_args": {...}}``, each further line a pass over
conversations: ``{"conversations": [...], "sampling": [{...}, ...], "one_at_a_time": false, "brief": false}``, with ``SamplingParams``
per conversation. Each pass is answered by one line ``OFFLINE {...}`` with the seconds it took and, per conversation, prompt ids,
token ids and text, or in brief only how many tokens. It ends with its standard input.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

#: Answers conversations, each with its ``SamplingParams``, by a list of ``RequestOutput``.
Ask = Callable[[list[Any], list[Any]], list[Any]]


def main() -> None:
    """Load the engine, then run one pass per line."""
    first = json.loads(sys.stdin.readline())
    ask = {"vllm": _load_vllm, "unsloth": _load_unsloth}[first.get("engine", "vllm")](first["model"], first["engine_args"])
    print("OFFLINE {}", flush=True)
    for line in sys.stdin:
        print("OFFLINE " + json.dumps(_one_pass(ask, json.loads(line))), flush=True)


def _load_vllm(model: str, engine_args: dict[str, Any]) -> Ask:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process less, as Kotae's engine has it
        os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    from vllm import LLM

    llm = LLM(model=model, **engine_args)
    return lambda conversations, params: llm.chat(conversations, params, use_tqdm=False)


def _load_unsloth(model: str, engine_args: dict[str, Any]) -> Ask:
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    from unsloth import FastLanguageModel

    loaded, tokenizer = FastLanguageModel.from_pretrained(model_name=model, fast_inference=True, use_exact_model_name=True, **engine_args)

    def ask(conversations: list[Any], params: list[Any]) -> list[Any]:
        how = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
        prompts = [{"prompt_token_ids": tokenizer.apply_chat_template(one, **how)} for one in conversations]
        outputs: list[Any] = loaded.fast_generate(prompts, params, use_tqdm=False)
        return outputs

    return ask


def _one_pass(ask: Ask, asked: dict[str, Any]) -> dict[str, Any]:
    from vllm import SamplingParams

    params = [SamplingParams(**sampling) for sampling in asked["sampling"]]
    conversations = asked["conversations"]
    began = time.monotonic()
    if asked.get("one_at_a_time"):
        outputs = [ask([one], [how])[0] for one, how in zip(conversations, params, strict=True)]
    else:
        outputs = ask(conversations, params)
    seconds = time.monotonic() - began
    if asked.get("brief"):
        return {"seconds": seconds, "lengths": [len(o.outputs[0].token_ids) for o in outputs]}
    told = [
        {"prompt_token_ids": list(o.prompt_token_ids), "token_ids": list(o.outputs[0].token_ids), "text": o.outputs[0].text}
        for o in outputs
    ]
    return {"seconds": seconds, "outputs": told}


if __name__ == "__main__":
    main()
