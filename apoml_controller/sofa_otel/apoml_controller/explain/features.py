"""Features: a read-only view of a performance feature vector that knows the difference between zero and "not measured"."""

from __future__ import annotations

from collections.abc import Mapping


class Features:
    """View of a feature vector.

    Args:
        values: Feature name → value; units as in the feature reference.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> float:
        """A feature that a rule has checked with :meth:`has`."""
        return self._values[name]

    def has(self, *names: str) -> bool:
        """Whether all of ``names`` were measured."""
        return all(name in self._values for name in names)

    def get(self, name: str, default: float = 0.0) -> float:
        """A feature, or ``default`` where it was not measured."""
        return self._values.get(name, default)
