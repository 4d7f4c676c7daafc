"""Offline vLLM, one prompt at a time: what Kotae's answers are held against. A program of its own: one engine per process.

Reads ``{"model": ..., "engine_args": {...}, "max_tokens": ..., "conversations": [...]}`` from standard input, and prints one JSON
line per conversation: ``{"prompt_token_ids": [...], "token_ids": [...], "text": ...}``.
"""

import json
import os
import sys


def main() -> None:
    """Answer what standard input asks, greedily."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(os.cpu_count()), "VLLM_LOGGING_LEVEL": "ERROR"}
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    asked = json.load(sys.stdin)
    from vllm import LLM, SamplingParams

    llm = LLM(model=asked["model"], **asked["engine_args"])
    params = SamplingParams(temperature=0, max_tokens=asked["max_tokens"])
    for conversation in asked["conversations"]:
        (output,) = llm.chat(conversation, params, use_tqdm=False)
        completion = output.outputs[0]
        told = {"prompt_token_ids": list(output.prompt_token_ids), "token_ids": list(completion.token_ids), "text": completion.text}
        print("OFFLINE " + json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
