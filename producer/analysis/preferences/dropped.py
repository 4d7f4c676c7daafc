"""Why a question gives no pair."""

import re
import unicodedata
from enum import StrEnum

from producer.analysis.replies import Reply
from producer.workbook.limits import CUT_FOR_EXCEL
from workers.contract.messages import Outcome


class Dropped(StrEnum):
    """Why a question gives no pair. Declared in the order in which the reasons are looked at: the first that holds is counted."""

    SKIPPED = "no question"
    MISSING = "missing"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    MALFORMED = "malformed"
    NO_REASONING = "without reasoning"
    PROMPTS_DIFFER = "different prompts"
    IDENTICAL = "identical"
    UNDECIDED = "undecided"
    OUTDATED = "outdated judgement"
    TIE = "tie"
    TOO_LONG = "too long for a cell"


#: What each means, as the dataset card says it.
MEANING = {
    Dropped.SKIPPED: "the row holds no question",
    Dropped.MISSING: "there are fewer than two replies, or one side has none: not asked yet, failed, rejected, timed out",
    Dropped.TRUNCATED: "a reply was cut off at max_tokens, or by Excel, whose cells hold no more",
    Dropped.EMPTY: "a reply, or its answer, is nothing but white space",
    Dropped.MALFORMED: "a reply breaks the format",
    Dropped.NO_REASONING: "a reply has no reasoning, which the format has a place for",
    Dropped.PROMPTS_DIFFER: "the two runs asked the model something else",
    Dropped.IDENTICAL: "the replies are the same, white space and full-width forms aside",
    Dropped.UNDECIDED: "nothing says which is better: no judgement, no score, no gold answer",
    Dropped.OUTDATED: "a reply is another one than when it was judged",
    Dropped.TIE: "the rule finds neither better",
    Dropped.TOO_LONG: "a text is longer than a cell of a workbook can be",
}


def flaw(reply: Reply, text: str | None, keep_malformed: bool) -> Dropped | None:
    """Return why a reply can stand in no pair, or None. ``text`` is the reply as the model is to write it."""
    if reply.outcome is Outcome.TRUNCATED or any(part.endswith(CUT_FOR_EXCEL) for part in (reply.text, reply.answer, reply.reasoning)):
        return Dropped.TRUNCATED
    if not (text or reply.text or reply.answer).strip() or not reply.answer.strip():
        return Dropped.EMPTY
    if reply.outcome is not Outcome.ANSWERED:
        return None if keep_malformed and text else Dropped.MALFORMED
    return Dropped.NO_REASONING if text is None else None


def sameness(text: str) -> str:
    """Return what is equal for two texts that count as identical."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()
