"""Which of vLLM's model runners is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

# vLLM is imported here, which warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")

LLAMA = {"LlamaForCausalLM"}


def gains(folder: Path, architecture: str, args: dict[str, Any] | None = None, by_default: set[str] = LLAMA) -> bool:
    """Ask for a model of an architecture, by what vLLM has the second runner for by default."""
    from workers.engines.model_runner import gains_by_second_runner

    kind = {"Phi3ForCausalLM": "phi3", "LlamaForCausalLM": "llama", "Gemma2ForCausalLM": "gemma2"}[architecture]
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [architecture]}))
    return gains_by_second_runner(str(folder), args or {}, by_default)


def test_a_model_that_is_a_llama_by_another_name_gets_the_runner_of_llama(tmp_path: Path) -> None:
    """Phi-4 is one. Seeds cost it a seventh of its speed otherwise."""
    assert gains(tmp_path, "Phi3ForCausalLM")


@pytest.mark.parametrize(
    ("architecture", "args", "by_default"),
    [
        pytest.param("LlamaForCausalLM", {}, LLAMA, id="has it anyway"),
        pytest.param("Gemma2ForCausalLM", {}, LLAMA, id="has code of its own"),
        pytest.param("Phi3ForCausalLM", {"speculative_config": {"method": "ngram"}}, LLAMA, id="wants what the second has not"),
        pytest.param("Phi3ForCausalLM", {}, set(), id="a vLLM that has one runner for all, or no second one"),
    ],
)
def test_elsewhere_vllm_decides(tmp_path: Path, architecture: str, args: dict[str, Any], by_default: set[str]) -> None:
    """It knows best what its runners can do."""
    assert not gains(tmp_path, architecture, args, by_default)


def test_a_model_that_cannot_be_read_is_left_to_vllm(tmp_path: Path) -> None:
    """Its message says more."""
    from workers.engines.model_runner import gains_by_second_runner

    assert not gains_by_second_runner(str(tmp_path), {}, LLAMA)
