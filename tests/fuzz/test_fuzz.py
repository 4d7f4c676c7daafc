"""Whatever somebody gives us is read, or refused in one line: in little memory, soon, and without a crash. `make fuzz` tries for longer."""

import os
import random
import time
from pathlib import Path

import pytest

from tests.fuzz.corpus import make_corpus
from tests.fuzz.mutations import mutate
from tests.fuzz.reader import Reader

#: Seconds to try, the seed of what is tried, and where files go over which something went wrong.
SECONDS = float(os.environ.get("KOTAE_FUZZ", "20"))
SEED = os.environ.get("KOTAE_FUZZ_SEED", "kotae")
FINDINGS = Path(os.environ["KOTAE_FUZZ_FINDINGS"]) if "KOTAE_FUZZ_FINDINGS" in os.environ else None


@pytest.mark.timeout(2 * SECONDS + 300)
def test_whatever_is_given_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """A crash over somebody's file would be the first thing that they see of us."""
    (tmp_path / "corpus").mkdir()
    corpus = make_corpus(tmp_path / "corpus")
    names = sorted(corpus)
    weights = [0.2 if name.endswith(".xls") else 1 for name in names]  # each takes a process of its own, and so much time
    findings = FINDINGS or tmp_path / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    found: list[str] = []
    end, tried = time.monotonic() + SECONDS, 0
    with Reader() as reader:
        for name in names:
            (path := tmp_path / name).write_bytes(corpus[name])
            assert not (trouble := reader.trouble(path)), trouble
        while time.monotonic() < end:
            rng = random.Random(f"{SEED}:{tried}")
            name = rng.choices(names, weights)[0]
            path = tmp_path / f"in{rng.choice([Path(name).suffix, '.xlsx', '.csv', '.jsonl', ''])}"
            path.write_bytes(mutate(rng, name, corpus))
            if trouble := reader.trouble(path):
                kept = findings / f"{SEED}-{tried}-{Path(name).stem}{path.suffix}"  # its ending counts where its content is text
                kept.write_bytes(path.read_bytes())
                found.append(f"{kept}: {trouble}")
            path.unlink()
            tried += 1

    print(f"{tried} files read in {SECONDS:g} s with KOTAE_FUZZ_SEED={SEED}; findings: {len(found)}")
    assert tried > SECONDS / 10
    assert not found, "\n".join([f"{len(found)} of {tried} files (KOTAE_FUZZ_SEED={SEED}), kept in {findings}", *found[:20]])
