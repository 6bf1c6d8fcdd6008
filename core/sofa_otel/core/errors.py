"""Typed, actionable errors: what was wrong, where, what to do. The exit codes are those of the command line."""

from __future__ import annotations


class SofaError(Exception):
    """Base of every error the suite raises on purpose.

    Args:
        message: What was wrong and where (``file:line``, ``byte N``, the knob's name).
        remedy: What to do about it; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.remedy}" if self.remedy else self.message


class WorkFailedError(SofaError):
    """The work was possible and failed (exit 1)."""


class UsageError(SofaError):
    """Bad usage or bad input (exit 2)."""

    exit_code = 2


class InputError(UsageError):
    """A file or a message cannot be read; the message names file and line, byte or event."""


class RequirementError(SofaError):
    """A requirement is missing: an extra, a tool, a permission (exit 3)."""

    exit_code = 3


class MissingExtraError(RequirementError):
    """An optional extra of this distribution is not installed."""

    def __init__(self, extra: str, what_for: str) -> None:
        super().__init__(f"{what_for} needs the extra [{extra}]", f"pip install 'sofa-otel[{extra}]'")
        self.extra = extra
