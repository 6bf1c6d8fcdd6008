"""Roles: what the name of a function or loop says about the level it belongs to.

Names are only one witness among several, and the only one that knows *meaning*: an optimiser is called once a step, a function
called ``train_epoch`` loops over steps, one called ``update_mini_batch`` is inside a step. The patterns are those of public
training code (PyTorch, Keras, scikit-learn, JAX, hand-written numpy), matched on whole words of a name.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sofa_otel.core.symbols import Symbol

_OPTIM_MODULE: Final = re.compile(
    r"(^|[._/])(optim|optimizers?|optax|_stochastic_optimizers|deepspeed\.ops\.adam|apex\.optimizers)([._/]|$)"
)
_OPTIM_STRONG: Final = re.compile(
    r"^(zero_grad|apply_gradients?|apply_updates?|update_params|optimizer_step|partial_fit|fit_batch|train_on_batch"
    r"|train_step|training_step|train_batch|train_one_batch|train_iter(ation)?|sgd_step|adam_step|sgd_update|adam_update"
    r"|update_mini_?batch|update_weights|update_parameters|update_batch|step_optimizer|learn_batch|_?optimi[sz]er_update)$"
)
_OPTIM_WEAK: Final = re.compile(r"^_?(step|update|optimi[sz]e|learn|train_one|backprop|backward|backward_pass)$")
_STEP: Final = re.compile(
    r"^_?((train(ing)?|fit|learn|optim\w*|update|run|do|one)_)*(step|batch|mini_?batch|iter(ation)?|partial_fit)(_fn)?$", re.I
)
_SET_UP: Final = re.compile(r"(^|\.)(__init__|__setstate__|add_param_group|load_state_dict|state_dict|register_\w+)(\.|$)")
_NOT_OPTIM: Final = re.compile(
    r"(^|[._/])(tqdm|rich|metrics?|meters?|lr_scheduler|profiler?|logging|gym|gymnasium|hashlib|env|envs)([._/]|$)"
)
_EPOCH: Final = re.compile(
    r"(^|_)(epochs?|train_loop|training_loop|trainer|fit_stochastic|fit_loop|optimization_loop)(_|$)", re.I
)
_BODY: Final = re.compile(
    r"(^|_)(batch|minibatch|step|forward|backward|backprop|loss|grads?|gradients?|layer|cell|attention|collate|getitem|augment"
    r"|transform|next_data|clip|zero|init_group|dropout|activation|call|call_impl|listcomp|genexpr|dictcomp)(_|$)"
)
_VALIDATION: Final = re.compile(
    r"(^|_)(eval(uate|uation)?|valid(ate|ation)?|val|test|estimate|score|predict|inference|accuracy)(_|$)", re.I
)
_CHECKPOINT: Final = re.compile(r"(^|_)(save|checkpoint|ckpt|savez|dump|persist|serialize|snapshot)(_|$)", re.I)
_LOADER: Final = re.compile(
    r"(^|[._/])(torch[./]utils[./]data|dataloader|multiprocessing|threading|concurrent|queue|joblib|loky|selectors|asyncio|socket)([._/]|$)"
)
_LIBRARY: Final = re.compile(r"(site-packages|dist-packages|/lib/python\d|^<(?!stdin|string|ipython))")


class Role(NamedTuple):
    """What a name says.

    Attributes:
        optimiser: 2 the call is an optimiser's or a whole step, 1 perhaps, 0 no.
        step: The name of one whole step of the program's own (``train_step``): called once a step.
        scope: +1 a loop in it is over steps, -1 a loop in it is inside a step, 0 unknown.
        user: The code is the user's own, not installed.
        loader: Input machinery, waiting or other plumbing.
        other: ``validation``, ``checkpoint`` or empty.
    """

    optimiser: int
    step: bool
    scope: int
    user: bool
    loader: bool
    other: str


def role_of(symbol: Symbol) -> Role:
    """Role of a function or loop (pure; callers cache it by symbol)."""
    leaf = symbol.function.replace(".<locals>", "").rsplit(".", 1)[-1].strip("<>")
    place = f"{symbol.module}"
    user = not _LIBRARY.search(symbol.file) and bool(symbol.file)
    optimiser = 0
    if not _NOT_OPTIM.search(place) and not _SET_UP.search(symbol.function):
        if _OPTIM_STRONG.match(leaf) or _OPTIM_MODULE.search(place):
            optimiser = 2
        elif _OPTIM_WEAK.match(leaf):
            optimiser = 1
    scope = 1 if _EPOCH.search(leaf) else -1 if _BODY.search(leaf) or optimiser else 0
    other = "validation" if _VALIDATION.search(leaf) else "checkpoint" if _CHECKPOINT.search(leaf) else ""
    return Role(optimiser, user and bool(_STEP.match(leaf)), scope, user, bool(_LOADER.search(place)), other)
