"""Fixtures of the swarm tests: a planted job run through grouping and attribution in canonical slices."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
