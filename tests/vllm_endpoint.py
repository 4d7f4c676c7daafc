"""vLLM's own OpenAI-compatible server, as `vllm serve` runs it; ends with the tests that started it."""

import runpy

from workers.contract.processes import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
