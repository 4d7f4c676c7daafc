"""How Unsloth loads a model, in the process that is to own the engine; Unsloth is imported here only, and before vLLM."""

import inspect
import os
from typing import Any

from workers.contract.errors import EngineDead, UserError

from .demo_model import cache_home

# Before Unsloth is imported: nobody is called home, and what it compiles goes where caches are.
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_home() / "kotae" / "unsloth"))

import unsloth
import unsloth_zoo.vllm_utils
from vllm.v1.engine.llm_engine import LLMEngine

from .vllm_base import check_engine_args
from .vllm_requests import first_line

#: Ours to decide. The exact name: Unsloth otherwise loads another repository's weights for many names, after asking the network.
_FIXED: dict[str, Any] = {"fast_inference": True, "use_exact_model_name": True}


def load(model: str, args: dict[str, Any]) -> LLMEngine:
    """Return the engine of a model, with its weights loaded. Raises UserError or EngineDead."""
    check_engine_args(args, _parameters(), f"Unsloth {unsloth.__version__}")
    try:
        loaded, _ = unsloth.FastLanguageModel.from_pretrained(model_name=model, **_FIXED, **args)
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f"Unsloth cannot load {model}: {first_line(error)}") from error
    except RuntimeError as error:
        raise EngineDead(f"Unsloth cannot start with {model}: {first_line(error)}") from error
    llm = getattr(loaded, "vllm_engine", None)
    if llm is None:  # it says so in a printed line and goes on without
        raise UserError(f"Unsloth has no fast inference for {model}; use --engine vllm")
    engine: LLMEngine = llm.llm_engine
    engine.model_of_unsloth = loaded  # shares its weights with the engine, so it must live as long
    return engine


def _parameters() -> set[str]:
    """Return the names that loading takes: Unsloth drops others with a printed line."""
    functions = (unsloth.FastLanguageModel.from_pretrained, unsloth_zoo.vllm_utils.load_vllm)
    parameters = (one for function in functions for one in inspect.signature(function).parameters.values())
    names = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    return names - _FIXED.keys() - {"model_name", "config", "use_async", "use_engine", "return_args"}
