"""Frames that say nothing about the program: start-up code, wrappers and call plumbing that every stack passes through.

They are skipped when the calling-context tree is built, so that a swarm is never called ``_call_impl`` and so that two Python
versions with different plumbing give the same tree.
"""

from __future__ import annotations

from typing import Final

from sofa_otel.processors.group.keys import FrameKey

_MODULES: Final = frozenset({
    "runpy", "importlib", "importlib._bootstrap", "importlib._bootstrap_external", "contextlib", "functools", "abc", "typing",
    "_frozen_importlib", "_frozen_importlib_external", "frozen importlib._bootstrap", "multiprocessing.spawn",
    "multiprocessing.popen_fork", "multiprocessing.popen_spawn_posix", "multiprocessing.popen_forkserver",
    "multiprocessing.forkserver", "multiprocessing.context", "multiprocessing.process", "concurrent.futures.process",
    "concurrent.futures.thread", "torch.utils._contextlib",
    "torch.autograd.profiler", "torch._ops", "torch._dynamo.eval_frame", "torch._compile",
    "torch.distributed.c10d_logger", "torch.multiprocessing.spawn", "sklearn.base", "sklearn.utils._param_validation",
    "asyncio.runners", "asyncio.events", "asyncio.base_events", "joblib.parallel", "sitecustomize",
})  # fmt: skip

_FUNCTIONS: Final = frozenset({
    ("threading", "Thread._bootstrap"), ("threading", "Thread._bootstrap_inner"), ("threading", "Thread.run"),
    ("threading", "_bootstrap"), ("threading", "_bootstrap_inner"), ("threading", "run"),
    ("torch.nn.modules.module", "_call_impl"), ("torch.nn.modules.module", "_wrapped_call_impl"),
    ("torch.nn.modules.module", "Module._call_impl"), ("torch.nn.modules.module", "Module._wrapped_call_impl"),
    ("torch.nn.modules.container", "Sequential.forward"), ("torch.nn.modules.container", "forward"),
    ("torch.autograd.function", "FunctionCtx.apply"), ("torch.autograd.function", "Function.apply"),
    ("torch.optim.optimizer", "profile_hook_step.<locals>.wrapper"), ("torch.optim.optimizer", "wrapper"),
    ("torch.optim.optimizer", "_use_grad_for_differentiable.<locals>._use_grad"), ("torch.optim.optimizer", "_use_grad"),
    ("torch.optim.lr_scheduler", "wrapper"),
    ("torch.utils.data._utils.worker", "_worker_loop"),
})  # fmt: skip

_WRAPPERS: Final = frozenset({"wrapper", "_wrapper", "wrapped", "_wrapped", "wrapper_fn", "decorate_context", "_no_grad_wrapper"})
"""Names of the inner function of a decorator; they stand before what was decorated on every stack."""

_NATIVE: Final = frozenset({
    "_start", "__libc_start_main", "__libc_start_call_main", "__libc_start_main_impl", "clone", "clone3", "__clone",
    "start_thread", "entry_SYSCALL_64_after_hwframe", "do_syscall_64", "ret_from_fork", "ret_from_fork_asm",
})  # fmt: skip
_NATIVE_PREFIXES: Final = (
    "_PyEval_",
    "PyEval_",
    "_PyFunction_",
    "_PyObject_",
    "PyObject_",
    "_PyVectorcall",
    "PyVectorcall",
    "Py_Run",
    "Py_BytesMain",
    "pymain_",
    "PyRun_",
    "run_mod",
    "method_vectorcall",
    "cfunction_",
    "_PyObject_MakeTpCall",
)
_COMPREHENSIONS: Final = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>")

_IMPORT_MODULES: Final = frozenset({"importlib._bootstrap", "_frozen_importlib", "frozen importlib._bootstrap", "importlib"})
_IMPORT_FUNCTIONS: Final = ("_find_and_load", "_load_unlocked", "import_module", "_call_with_frames_removed")

IMPORT_KEY: Final = FrameKey("python", "import")
"""Everything below an import statement is one node: start-up cost, not training."""

_CHILD_FRAMES: Final = frozenset({
    ("torch.utils.data._utils.worker", "_worker_loop"), ("concurrent.futures.process", "_process_worker"),
    ("multiprocessing.pool", "worker"), ("joblib.externals.loky.process_executor", "_process_worker"),
})  # fmt: skip


def is_boilerplate(key: FrameKey) -> bool:
    """Whether a frame is left out of the tree."""
    if key.module in _MODULES or (key.module, key.function) in _FUNCTIONS or key.function.endswith(_COMPREHENSIONS):
        return True
    if key.file:
        if key.module.startswith("_sofa_probe"):
            return True
        if key.function.rsplit(".", 1)[-1] in _WRAPPERS and (".<locals>." in key.function or "." not in key.function):
            return True
        return "importlib._bootstrap" in key.file
    return key.function in _NATIVE or key.function.startswith(_NATIVE_PREFIXES)


def is_import(key: FrameKey) -> bool:
    """Whether a frame is the import machinery at work."""
    machinery = key.module in _IMPORT_MODULES or "importlib._bootstrap" in key.file
    return machinery and key.function.endswith(_IMPORT_FUNCTIONS)


def is_worker_root(key: FrameKey) -> bool:
    """Whether a frame is the main loop of a helper process (a data-loader worker, a pool worker): never the training loop."""
    return (key.module, key.function) in _CHILD_FRAMES
