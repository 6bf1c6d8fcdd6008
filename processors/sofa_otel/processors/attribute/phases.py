"""Phases from names: which part of the training loop a frame is evidence for, and how evidence along a path is combined.

Evidence is *strong* (the name says it: ``loss.backward``, ``torch.optim``) or *weak* (a word that often means it: ``load``,
``update``). The innermost strong evidence on a path wins, weak evidence only fills in; a forward pass inside data loading or
validation (transforms are modules too) does not become the model's.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sofa_otel.core.names import Phase

PHASES: Final = tuple(Phase)
"""Phase codes are positions in this tuple."""
CODE: Final = {phase: code for code, phase in enumerate(PHASES)}
UNKNOWN: Final = CODE[Phase.UNKNOWN]
LOADING: Final = CODE[Phase.DATA_LOADING]
FORWARD: Final = CODE[Phase.MODEL_FORWARD]
BACKWARD: Final = CODE[Phase.MODEL_BACKWARD]
UPDATE: Final = CODE[Phase.OPTIMIZER_UPDATE]
CHECKPOINT: Final = CODE[Phase.CHECKPOINT_SAVE]
VALIDATION: Final = CODE[Phase.VALIDATION]

NONE, WEAK, STRONG = 0, 1, 2


class Evidence(NamedTuple):
    """A phase code and how strongly a name speaks for it."""

    phase: int
    strength: int


NOTHING: Final = Evidence(UNKNOWN, NONE)

_MODULES: Final[tuple[tuple[str, Evidence], ...]] = (
    ("torch.utils.data", Evidence(LOADING, STRONG)),
    ("torchvision.transforms", Evidence(LOADING, STRONG)),
    ("torchvision.datasets", Evidence(LOADING, STRONG)),
    ("torchvision.io", Evidence(LOADING, STRONG)),
    ("albumentations", Evidence(LOADING, STRONG)),
    ("webdataset", Evidence(LOADING, STRONG)),
    ("datasets.", Evidence(LOADING, STRONG)),
    ("tensorflow.python.data", Evidence(LOADING, STRONG)),
    ("PIL.", Evidence(LOADING, WEAK)),
    ("torch.optim.lr_scheduler", Evidence(UPDATE, WEAK)),
    ("torch.optim", Evidence(UPDATE, STRONG)),
    ("torch.nn.utils.clip_grad", Evidence(UPDATE, STRONG)),
    ("torch.autograd.grad_mode", NOTHING),
    ("torch.autograd.function", NOTHING),
    ("torch.autograd.profiler", NOTHING),
    ("torch.autograd", Evidence(BACKWARD, STRONG)),
    ("torch.serialization", Evidence(CHECKPOINT, WEAK)),
    ("torch.distributed.checkpoint", Evidence(CHECKPOINT, STRONG)),
    ("torch.nn.modules.module", NOTHING),
    ("torch.nn.modules", Evidence(FORWARD, WEAK)),
    ("torch.nn.functional", Evidence(FORWARD, WEAK)),
)
_HOOKS: Final = {
    ("torch", "dataloader.next"): Evidence(LOADING, STRONG),
    ("torch", "autograd.backward"): Evidence(BACKWARD, STRONG),
    ("torch", "optimizer.step"): Evidence(UPDATE, STRONG),
    ("torch", "checkpoint.save"): Evidence(CHECKPOINT, STRONG),
}
_NO_EVIDENCE: Final = frozenset({
    "no_grad", "enable_grad", "set_grad_enabled", "inference_mode", "requires_grad", "requires_grad_", "save_for_backward",
    "train_step", "training_step", "step_fn", "grad_mode",
})  # fmt: skip
_STRONG: Final[tuple[tuple[int, re.Pattern[str]], ...]] = tuple(
    (phase, re.compile(pattern))
    for phase, pattern in (
        (UPDATE, r"zero_grad|clip_grad|apply_(grad|update)|optimi[sz]er|(^|_)(sgd|adamw?)(_|$)"
                 r"|update_(weights?|params?|parameters?|model)|partial_fit"),
        (BACKWARD, r"(^|_)(backward|backprop|back_propagate|bwd|autograd)(_|$)|(^|_)(grads?|gradients?)(_|$)"),
        (CHECKPOINT, r"(^|_)(checkpoint|checkpoints|ckpt)(_|$)|(^|_)save(_|$)|(^|_)savez|save_(state|model|pretrained)"),
        (VALIDATION, r"(^|_)(validate|validation|evaluate|evaluation)(_|$)"),
        (LOADING, r"(^|_)(data_?loaders?|data_?sets?|collate|collator|augment\w*|prefetch\w*|loader|mini_?batches|batches)(_|$)"
                  r"|(^|_)(get|next|load|fetch|read|sample|make|produce|draw|prepare|build)_(mini_?)?(batch|data|examples?|images?|records?|shard|inputs?)(_|$)"),
        (FORWARD, r"(^|_)(forward|fwd|predict|predict_proba|decision_function)(_|$)"),
    )
)  # fmt: skip
_WEAK: Final[tuple[tuple[int, re.Pattern[str]], ...]] = tuple(
    (phase, re.compile(pattern))
    for phase, pattern in (
        (CHECKPOINT, r"(^|_)(dump|snapshot)(_|$)"),
        (VALIDATION, r"(^|_)(val|eval|test|score|accuracy|metrics?)(_|$)"),
        (LOADING, r"(^|_)(load|fetch|read|decode|tokeni[sz]e|preprocess\w*|transforms?|shuffle|batch|input)(_|$)"
                  r"|^__(next|getitem)__$"),
        (UPDATE, r"(^|_)update(_|$)"),
        (FORWARD, r"(^|_)(loss|criterion|cross_entropy|logits|softmax|attention|embed|embedding|relu|conv|linear|matmul)"
                  r"(_|$)|(^|_)(encode|model)"
                  r"(_|$)"),
    )
)  # fmt: skip
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")
_CALL: Final = re.compile(r"([A-Za-z_][\w.]*)\s*\(")


def snake(name: str) -> str:
    """``DataLoader`` → ``data_loader``; dunders stay."""
    return _CAMEL.sub("_", name).lower()


def frame_evidence(module: str, function: str) -> Evidence:
    """Evidence of a frame by its module, its class and its function."""
    hook = _HOOKS.get((module, function))
    if hook is not None:
        return hook
    if module in {"syscall", "kernel", "copy", "collective"}:
        return NOTHING
    parts = [part for part in function.split(".") if part != "<locals>"] or [""]
    last = parts[-1].lower()
    if last in _NO_EVIDENCE:
        return NOTHING
    if module.startswith("torch.utils.checkpoint"):
        return NOTHING  # activation checkpointing: recomputation, not saving
    own = _name_evidence(snake(parts[-1]))
    if own.strength == STRONG:
        return own
    by_module = next((found for prefix, found in _MODULES if module.startswith(prefix)), None)
    if by_module is not None:
        return by_module
    owner = _owner_evidence(parts[:-1], last)
    if owner.strength > own.strength:
        return owner
    if module in {"queue", "multiprocessing.queues", "multiprocessing.pool"} and last in {"get", "next"}:
        return Evidence(LOADING, WEAK)
    return own


def _owner_evidence(owners: list[str], last: str) -> Evidence:
    if not owners:
        return NOTHING
    owner = snake(owners[-1])
    found = _name_evidence(owner)
    # A class name says what its methods do, but only for the two families where every method does it.
    if found.phase in {LOADING, UPDATE} and found.strength == STRONG:
        return found
    if last == "step" and re.search(r"optim|sgd|adam", owner):
        return Evidence(UPDATE, STRONG)
    if last == "__call__" and re.search(r"(^|_)(model|net|network|layer|module)(_|$)", owner):
        return Evidence(FORWARD, WEAK)
    return NOTHING


def _name_evidence(name: str) -> Evidence:
    if name in _NO_EVIDENCE:
        return NOTHING
    for phase, rule in _STRONG:
        if rule.search(name):
            return Evidence(phase, STRONG)
    for phase, rule in _WEAK:
        if rule.search(name):
            return Evidence(phase, WEAK)
    return NOTHING


def line_evidence(text: str) -> Evidence:
    """Evidence of a source line: what it calls speaks first, then any word in it; never more than weak."""
    calls = [part for call in _CALL.findall(text) for part in call.split(".")]
    if "step" in calls and re.search(r"\bopt\w*\.step\(", text):
        return Evidence(UPDATE, WEAK)
    for words in (calls, _IDENTIFIER.findall(text)):
        found = [_name_evidence(snake(word)) for word in words]
        for strength in (STRONG, WEAK):
            phases = [one.phase for one in found if one.strength == strength]
            if phases:
                return Evidence(phases[-1], WEAK)
    return NOTHING


def combine(outer: Evidence, own: Evidence) -> Evidence:
    """Evidence of a path from that of its caller and that of its own frame."""
    if own.strength == NONE:
        return outer
    if outer.strength == NONE:
        return own
    if own.phase == FORWARD and outer.phase in {LOADING, VALIDATION, CHECKPOINT}:
        return outer
    if own.strength < outer.strength:
        return outer
    if own.phase == LOADING and outer.phase == CHECKPOINT:
        return outer
    return own


_COLLECTIVES: Final = re.compile(
    r"all_?reduce|all_?gather|reduce_?scatter|(^|_)broadcast|(^|_)barrier|all_?to_?all|(^|_)(i?send|i?recv)(_|$)|wait_?all|(^|_)(wait|synchronize)$"
)
_NATIVE_COMM: Final = re.compile(r"nccl|rccl|gloo|\bMPI_|ProcessGroup|c10d")


def is_communication(module: str, function: str) -> bool:
    """Whether a frame is communication between ranks."""
    if module.startswith(("torch.distributed", "horovod", "mpi4py", "torch._C._distributed")):
        if module.startswith(
            ("torch.distributed.elastic", "torch.distributed.launcher", "torch.distributed.run", "torch.distributed.fsdp")
        ):
            return False
        return _COLLECTIVES.search(snake(function.rsplit(".", 1)[-1])) is not None
    if module == "collective" or (module, function) == ("kernel", "nccl"):
        return True
    return ".so" in module and _NATIVE_COMM.search(f"{module} {function}") is not None


def is_distributed(module: str) -> bool:
    """Whether a frame shows that gradients are averaged between ranks, even where the collective itself is out of sight."""
    return module.startswith(("torch.nn.parallel.distributed", "torch.distributed.fsdp", "horovod"))
