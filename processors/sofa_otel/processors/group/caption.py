"""What a swarm is called and what kind it is: a name a person recognises, a role word, the phase it works in."""

from __future__ import annotations

from typing import Final

from sofa_otel.core.names import Phase, SwarmKind
from sofa_otel.processors.group.boilerplate import IMPORT_KEY
from sofa_otel.processors.group.keys import FrameKey
from sofa_otel.processors.group.source_lines import SourceLine

_WORDS: Final = {
    Phase.DATA_LOADING: "data loading",
    Phase.MODEL_FORWARD: "forward",
    Phase.MODEL_BACKWARD: "backward",
    Phase.OPTIMIZER_UPDATE: "optimizer",
    Phase.CHECKPOINT_SAVE: "checkpoint",
    Phase.VALIDATION: "validation",
    Phase.UNKNOWN: "",
}
_ROLES: Final = {
    SwarmKind.COMPUTE: "compute",
    SwarmKind.COMMUNICATION: "communication",
    SwarmKind.INPUT: "input",
    SwarmKind.CHECKPOINT: "checkpoint",
    SwarmKind.IDLE: "waiting",
    SwarmKind.OTHER: "other",
}
_TEXT: Final = 60


def kind_of(key: FrameKey, phase: Phase, *, communication: bool, blocked: float) -> SwarmKind:
    """Kind by rules: what its frames are, then what phase it works in, then whether it mostly waits.

    Args:
        key: Frame the swarm is named after.
        phase: Dominant phase.
        communication: Most of its weight is inside collectives.
        blocked: Share of its samples in which the thread was asleep or blocked.
    """
    if key.identity == IMPORT_KEY.identity:
        return SwarmKind.OTHER
    if communication or key.identity[:2] in {("kernel", "nccl"), ("copy", "p2p")}:
        return SwarmKind.COMMUNICATION
    if phase is Phase.DATA_LOADING:
        return SwarmKind.INPUT
    if phase is Phase.CHECKPOINT_SAVE:
        return SwarmKind.CHECKPOINT
    if blocked > 0.8 or key.identity[:2] in {("syscall", "sleep"), ("syscall", "poll"), ("syscall", "futex wait")}:
        return SwarmKind.IDLE
    return SwarmKind.COMPUTE


def caption_of(key: FrameKey, top: FrameKey, line: SourceLine | None, kind: SwarmKind, phase: Phase) -> str:
    """``load_batch › decode · input (data loading)``; a line swarm shows its source text.

    Args:
        key, top: Innermost and outermost frame of the swarm's chain.
        line: Text of the line, for line swarms whose source can be read.
    """
    if key.identity == IMPORT_KEY.identity:
        return "imports · start-up"
    name = _short(key)
    if key.line:
        name = f"{name}:{key.line} {_cut(line.text)}" if line is not None else f"{name}:{key.line}"
    elif top.identity != key.identity:
        name = f"{_short(top)} › {name}"
    word = _WORDS[phase]
    role = _ROLES[kind]
    return f"{name} · {role} ({word})" if word and word != role else f"{name} · {role}"


def _short(key: FrameKey) -> str:
    if key.function == "*":
        return f"{key.module} (all)"
    if key.function in {"<module>", "<lambda>", "__call__", "run", "forward", "main"} or key.module in {
        "syscall",
        "kernel",
        "copy",
    }:
        return (
            f"{key.module.rsplit('.', 1)[-1]}.{key.function}"
            if key.module not in {"syscall", "kernel", "copy"}
            else f"{key.module} {key.function}"
        )
    return key.function.replace(".<locals>", "")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"
