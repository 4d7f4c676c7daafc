"""Where answers come from: what every output says of its run, in a sheet, in its metadata, or in a file beside it."""

import json
from pathlib import Path
from typing import Any

from producer.price import price_of
from producer.runs import RunStore

from .destination import record_path
from .replacing import replacing


def write_record(out: Path, record: dict[str, Any]) -> None:
    """Write the file beside an output. Raises WorkbookError."""
    with replacing(record_path(out)) as work:
        work.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def provenance(store: RunStore) -> dict[str, Any]:
    """Return what was asked, who answered, and what came of it. All of it from the store, so that it never changes by itself."""
    manifest, tally = store.manifest, store.tally()
    asked: dict[str, Any] = {
        "run": manifest.run_id,
        "kotae": manifest.kotae_version,
        "begun": manifest.created_at,
        "last answer": store.last_stored_at() or "",
        "sheet": manifest.sheet,
        "question column": manifest.question_column,
        "rows": manifest.rows,
        "limit": manifest.limit,
        "served name": manifest.served_name,
        "model as given": manifest.model,
        "adapter": manifest.adapter,
        "engine arguments": manifest.engine_args or None,
        "system prompt": manifest.system_prompt,
        **manifest.steering.told(),
        "reply format": str(manifest.reply_format),
        "blank lines": str(manifest.blank_lines),
    }
    asked |= {f"sampling: {name}": value for name, value in manifest.sampling.model_dump(mode="json").items()}
    for number, fingerprint in enumerate(store.fingerprints(), start=1):
        asked[f"model {number}: fingerprint"] = fingerprint
        identity = store.models().get(fingerprint)
        if identity is not None:
            asked |= {f"model {number}: {name}": value for name, value in identity.model_dump(mode="json").items()}
    asked |= {f"asked anew ({number})": told for number, told in enumerate(manifest.retries, start=1)}
    asked |= {f"answers of run {run_id}": count for run_id, count in store.reused().items()}
    asked |= {f"rows {outcome}": count for outcome, count in sorted(tally.by_outcome.items())}
    asked["rows not settled yet"] = tally.rows - tally.stored or None
    asked["yield"] = f"{tally.answered} of {tally.asked} replies keep the format"
    asked |= {"prompt tokens": tally.prompt_tokens, "output tokens": tally.output_tokens, "price of these answers": price_of(store)}
    return {name: value for name, value in asked.items() if value not in (None, "", (), [], {})}
