"""The errors of Kotae, in one tree.

::

    KotaeError
    ├── UserError            somebody can mend it: one line that says how, exit code 2, never a traceback
    │   ├── WorkbookError    the workbook cannot be read or written as asked
    │   └── BrokerError      Redis refuses us
    │       ├── BrokerUnreachable  nobody answers there: who was connected before may wait until somebody does
    │       └── BrokerFull         it takes nothing more for now
    └── EngineError          what an engine may answer instead of text
        ├── Rejected         this row can never work here: prompt too long, unknown adapter
        ├── Failed           this row failed; another attempt may succeed
        └── EngineDead       the engine is gone: the process must end, its rows go back to the queue
"""


class KotaeError(Exception):
    """Anything that Kotae raises on purpose."""


class UserError(KotaeError):
    """Raised when the person at the keyboard can mend it; the message is one line that says how."""


class WorkbookError(UserError):
    """Raised when a workbook cannot be read or written as asked."""


class BrokerError(UserError):
    """Raised when Redis cannot be reached, or refuses us."""


class BrokerUnreachable(BrokerError):
    """Raised when Redis does not answer; a run that has begun waits until it does."""


class BrokerFull(BrokerError):
    """Raised when Redis has no memory left; collecting results makes room."""


class EngineError(KotaeError):
    """What an engine may raise instead of returning text."""


class Rejected(EngineError):
    """Raised for a row that can never work on this engine; asking again is pointless."""


class Failed(EngineError):
    """Raised for a row that failed although the engine lives; asking again may help."""


class EngineDead(EngineError):
    """Raised when the engine is gone; the process ends and its rows are given back."""
