"""How the tests are dealt out to processes, and in which order. Hooks of pytest, which conftest.py takes in."""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class OneEngine(LoadScopeScheduling):
    """Deals tests out one by one, but all that use the vLLM engine to one process, which then loads one; and the faults to one."""

    def _split_scope(self, nodeid: str) -> str:
        if any(part in nodeid for part in ("test_engines", "test_vllm", "test_unsloth")):
            return "vllm"
        makes_networks = any(part in nodeid for part in ("tests/chaos", "test_compose", "test_hosts"))
        return "chaos" if makes_networks else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Tell xdist how to deal the tests out."""
    return OneEngine(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Give one process more than there are cores: two of them have long rows of tests of their own, and most of the others wait."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the vLLM engine, the faults and the damaged files, which take longest."""
    first = ("vllm", "test_engines", "chaos", "fuzz")
    items.sort(key=lambda item: not any(part in item.nodeid for part in first))
