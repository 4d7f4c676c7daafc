"""Answers that an earlier run of the same home has paid for: an edited workbook asks only what changed."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from workers.contract.errors import UserError

from .questions import Questions
from .runs import RunStore, list_runs


def reuse_answers(store: RunStore, home: Path, questions: Questions, fingerprints: Collection[str]) -> int:
    """Copy the answers to the same questions, by a model of one of these fingerprints, into a new run; return how many there were.

    The same question means: the same messages, sampling, row seed, served name and adapter. Newer runs are asked first.
    """
    wanted = {questions.key(row): row for row in sorted(set(range(store.manifest.asked_rows)) - store.settled_rows())}
    copied = 0
    for run_id in reversed(list_runs(home)):
        if not wanted or run_id == store.manifest.run_id:
            continue
        with contextlib.suppress(UserError):  # a run of another version, or a damaged one, has nothing for us
            earlier = RunStore.open(home, run_id, writing=False)
            if earlier is not None:
                with earlier:
                    copied += _copy(store, earlier, wanted, questions, fingerprints)
    return copied


def _copy(store: RunStore, earlier: RunStore, wanted: dict[str, int], questions: Questions, fingerprints: Collection[str]) -> int:
    ours, theirs = store.manifest, earlier.manifest
    if ours.served_name != theirs.served_name:
        return 0
    found = {
        row: wanted.pop(key) for row, key, fingerprint in earlier.answered_questions() if fingerprint in fingerprints and key in wanted
    }
    if found:
        for fingerprint, identity in earlier.models().items():
            store.store_model(fingerprint, identity)
        change = {"run_id": ours.run_id, "generation": ours.generation, "gpu_seconds": 0.0}
        answers = (stored.answer for stored in earlier.answers(theirs.rows) if stored.answer.row in found)
        copies = (answer.model_copy(update=change | {"row": found[answer.row]}) for answer in answers)
        store.store(copies, questions.key, reused_from=theirs.run_id)
    return len(found)
