"""From Question to Answer, with an engine in between; knows neither Celery nor Redis."""

import time
import uuid

from .contract.errors import Failed, Rejected
from .contract.messages import Answer, Completion, Outcome, Question, task_id
from .contract.replies import joined, read_reply
from .engines import Engine, Generation, Sample
from .engines.row_clock import row_clock

_BEST_FIRST = list(Outcome)


async def answer_question(question: Question, engine: Engine) -> Answer:
    """Ask the engine one question within its ``row_timeout``, and read what it replies.

    Every failure of the row is an Answer with its outcome. Raises EngineDead, since then the row is not to blame, and passes
    cancellation on after the engine has aborted the row.
    """
    started = time.monotonic()
    try:
        async with row_clock(question.row_timeout):
            # Unique per attempt: the engine refuses an id that it already has.
            attempt = f"{task_id(question.run_id, question.row, question.generation)}:{uuid.uuid4().hex[:8]}"
            generation = await engine.generate(attempt, question.messages, question.sampling, question.adapter)
    except Rejected as error:
        return unanswered(question, Outcome.REJECTED, str(error))
    except Failed as error:
        return unanswered(question, Outcome.FAILED, str(error))
    except TimeoutError:
        return unanswered(question, Outcome.TIMED_OUT, f"no reply within {question.row_timeout:g} s (--row-timeout)")
    return _answered(question, generation, time.monotonic() - started)


def unanswered(question: Question, outcome: Outcome, error: str) -> Answer:
    """Return the answer of a row that has no completion."""
    return Answer(run_id=question.run_id, row=question.row, generation=question.generation, outcome=outcome, error=error)


def _answered(question: Question, generation: Generation, seconds: float) -> Answer:
    completions = tuple(_completion(question, sample) for sample in generation.samples)
    return Answer(
        run_id=question.run_id,
        row=question.row,
        generation=question.generation,
        outcome=min((c.outcome for c in completions), key=_BEST_FIRST.index),
        completions=completions,
        prompt_tokens=len(generation.prompt_token_ids),
        seconds=round(seconds, 3),
    )


def _completion(question: Question, sample: Sample) -> Completion:
    text = joined(sample.reasoning, sample.text, question.reply_format)
    reading = read_reply(text, sample.finish_reason, question.reply_format, question.blank_lines)
    return Completion(
        text=text,
        reasoning=reading.reasoning,
        answer=reading.answer,
        outcome=reading.outcome,
        finish_reason=sample.finish_reason,
        output_tokens=len(sample.token_ids),
    )
