"""Time by call path over the whole run: the flame graph of every swarm, written once at the end."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sofa_otel.core.records import StackProfile
from sofa_otel.processors.group.keys import FrameKey
from sofa_otel.processors.group.tree import ROOT, CallTree

MAX_PATHS: Final = 2_000


class Profile:
    """Nanoseconds and samples by tree node."""

    def __init__(self) -> None:
        self._time = np.zeros(64, np.int64)
        self._samples = np.zeros(64, np.int64)

    def add(self, node: NDArray[Any], time_ns: NDArray[np.int64]) -> None:
        """Add time to nodes."""
        if len(node):
            self._grow(int(node.max()))
            np.add.at(self._time, node, time_ns)

    def count(self, node: NDArray[Any], samples: NDArray[Any]) -> None:
        """Add samples to nodes."""
        if len(node):
            self._grow(int(node.max()))
            np.add.at(self._samples, node, samples)

    def _grow(self, node: int) -> None:
        if node >= len(self._time):
            size = max(node + 1, 2 * len(self._time)) - len(self._time)
            self._time = np.concatenate([self._time, np.zeros(size, np.int64)])
            self._samples = np.concatenate([self._samples, np.zeros(size, np.int64)])

    def records(self, job: str, rank: int, tree: CallTree, swarm: NDArray[np.int32], ids: list[str]) -> list[StackProfile]:
        """The biggest paths, biggest first, at most :data:`MAX_PATHS`."""
        nodes = np.flatnonzero(self._time > 0)
        nodes = nodes[(nodes != ROOT) & (nodes < len(tree))]
        order = nodes[np.argsort(-self._time[nodes], kind="stable")][:MAX_PATHS]
        return [
            StackProfile(
                job=job,
                rank=rank,
                swarm=ids[swarm[node]],
                frames=_frames(tree, node),
                time_ns=int(self._time[node]),
                samples=int(self._samples[node]),
            )
            for node in order.tolist()
        ]


def _frames(tree: CallTree, node: int) -> list[str]:
    path = tree.frames(node)
    keys = [tree.keys[one] for one in path]
    if len(keys) > 1 and keys[-1].line:
        del keys[-2]  # the line says its function too
    return [_text(key) for key in keys]


def _text(key: FrameKey) -> str:
    if not key.file:
        return key.text
    file = PurePath(key.file).name
    return f"{key.function} ({file}:{key.line})" if key.line else f"{key.function} ({file})"
