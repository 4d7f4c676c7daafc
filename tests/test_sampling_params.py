"""What vLLM is asked for a row."""

import pytest

from workers.contract.messages import Sampling

# vLLM is imported here, which warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("sampling", "seed"),
    [
        pytest.param(Sampling(temperature=0.5, seed=7, n=4), 7, id="as it stands"),
        pytest.param(Sampling(temperature=0, seed=7), None, id="greedy needs none"),
        pytest.param(Sampling(temperature=0.5, seed=2**63 - 1), 2**63 - 1, id="the largest"),
        pytest.param(Sampling(temperature=0.5, seed=2**63 - 1, n=4), 2**63 - 4, id="the largest, with room for its samples"),
    ],
)
def test_a_seed_and_those_of_further_samples_fit_into_63_bits(sampling: Sampling, seed: int | None) -> None:
    """vLLM counts up from it, and its second model runner stores 64 bits with a sign."""
    from workers.engines.vllm_requests import sampling_params

    assert sampling_params(sampling, 16).seed == seed
