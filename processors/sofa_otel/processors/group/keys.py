"""Frame keys: the part of a symbol that is the same in the next process and in the next build.

Identity is ``module!function``. Addresses, offsets, template arguments, clone suffixes and symbol versions go; digits stay,
because ``layer1`` and ``layer2`` are two functions (only a counter after ``#`` is dropped). A line is part of a key only for the
pseudo frames that split one big Python function (see :mod:`.cut`). Events without a stack get the key of their family.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final, NamedTuple

from sofa_otel.core.kinds import Copy, Futex, Kind
from sofa_otel.core.symbols import Symbol


class FrameKey(NamedTuple):
    """Identity of a frame.

    Attributes:
        module: Python module, shared object, or the family (``syscall``, ``kernel``, ``copy`` …).
        function: Normalised function name.
        line: Source line for line pseudo frames, else 0.
        file: Where the source of a Python frame can be read; no part of identity.
    """

    module: str
    function: str
    line: int = 0
    file: str = ""

    @property
    def identity(self) -> tuple[str, str, int]:
        """What two equal frames share."""
        return self.module, self.function, self.line

    @property
    def text(self) -> str:
        """``module!function`` or ``module!function:line``."""
        base = f"{self.module}!{self.function}" if self.module else self.function
        return f"{base}:{self.line}" if self.line else base


_COUNTER: Final = re.compile(r"#\d+")
_CLONE: Final = re.compile(r"(?:\.(?:constprop|isra|part|cold|lto_priv|llvm|clone|localalias)(?:\.\d+)*)+$")
_VERSION: Final = re.compile(r"@{1,2}[A-Z][\w.]*$")
_SO_VERSION: Final = re.compile(r"(\.so)(?:\.\d+)+$")
_OPERATOR: Final = re.compile(r"operator(?:\(\)|\[\]|->\*?|<=>|<<=?|>>=?|[<>=!]=|&&|\|\||\+\+|--|[-+*/%^&|~!=<>,]=?)")
_ANON: Final = "(anonymous namespace)"
_NO_NAME: Final = frozenset({"", "[unknown]", "??", "<unknown>"})


def is_python(symbol: Symbol) -> bool:
    """Whether a symbol is a Python frame: only those carry a source file of Python's or a ``<string>``-like name."""
    return symbol.file.endswith((".py", ".pyx", ".pyw")) or symbol.file.startswith("<")


def frame_key(symbol: Symbol) -> FrameKey:
    """Key of a stack frame."""
    function = _COUNTER.sub("#", symbol.function)
    if is_python(symbol):
        return FrameKey(_python_module(symbol), function, 0, symbol.file)
    module = _SO_VERSION.sub(r"\1", symbol.module.rsplit("/", 1)[-1])
    if function in _NO_NAME or function.startswith("0x"):
        # Address only: the 4 KiB page of the module-relative offset, so that ASLR does not matter.
        return FrameKey(module, f"+{symbol.offset >> 12:x}000")
    return FrameKey(module, native_name(function))


def _python_module(symbol: Symbol) -> str:
    if symbol.module not in {"__main__", ""} or symbol.file.startswith("<"):
        return symbol.module or symbol.file
    path = PurePath(symbol.file)
    return f"{path.parent.name}.__main__" if path.stem == "__main__" else path.stem


def native_name(function: str) -> str:
    """A native name without template arguments, parameter list, return type, clone suffix and version."""
    name = _CLONE.sub("", _VERSION.sub("", function.replace(_ANON, "{anon}")))
    if "<" in name or "(" in name:
        name = _strip_brackets(name).removesuffix(" const").strip()
        if not name.strip(": "):
            return function  # nothing but brackets: some other language's way to write a name
    head, _, last = name.strip().rpartition(" ")
    # A return type stands before the name, except in "operator new" and conversion operators.
    return (f"{head} {last}" if "operator" in head else last) or function


def _strip_brackets(name: str) -> str:
    out: list[str] = []
    depth = 0
    i = 0
    while i < len(name):
        operator = _OPERATOR.match(name, i) if depth == 0 else None
        if operator is not None:
            out.append(operator.group())
            i = operator.end()
            continue
        char = name[i]
        if char in "<(":
            depth += 1
        elif char in ">)":
            depth = max(depth - 1, 0)
        elif depth == 0:
            out.append(char)
        i += 1
    return "".join(out)


_SYSCALLS: Final[dict[str, str]] = {
    name: family
    for family, names in {
        "read": "read pread64 readv preadv preadv2",
        "write": "write pwrite64 writev pwritev pwritev2 sendfile splice",
        "poll": "poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2",
        "socket": "recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg accept accept4 connect shutdown",
        "memory": "mmap munmap mremap brk madvise mprotect",
        "sync to disk": "fsync fdatasync sync_file_range msync",
        "sleep": "nanosleep clock_nanosleep pause sched_yield",
        "file": "open openat close stat fstat lstat newfstatat statx lseek access faccessat faccessat2 getdents64 unlink rename",
        "process": "clone clone3 fork vfork execve wait4 waitid exit exit_group kill tgkill",
    }.items()
    for name in names.split()
}

_KERNELS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (family, re.compile(pattern, re.IGNORECASE))
    for family, pattern in (
        ("nccl", r"nccl|rccl"),
        ("attention", r"flash|fmha|attention"),
        ("conv", r"conv|winograd|implicit_gemm|dgrad|wgrad|im2col|col2im"),
        ("gemm", r"gemm|gemv|cutlass|cublas|matmul|s\d+gemm|xmma"),
        ("norm", r"(batch|layer|group|rms|instance)_?norm|bn_(fw|bw)|norm_kernel"),
        ("softmax", r"softmax"),
        ("pool", r"pool"),
        ("dropout", r"dropout"),
        ("embedding", r"embedding|index|gather|scatter"),
        ("optimizer", r"adam|sgd|multi_tensor_apply"),
        ("reduce", r"reduce"),
        ("elementwise", r"elementwise|vectorized|fill|add|mul|copy_kernel"),
    )
)


def is_communication_kernel(name: str) -> bool:
    """Whether a GPU kernel moves data between ranks."""
    return _KERNELS[0][1].search(name) is not None


def family_key(kind: int, subkind: int, symbol: Symbol) -> FrameKey:
    """Key of an event that has no stack."""
    name = _COUNTER.sub("#", symbol.function)
    if kind == Kind.SYSCALL:
        if name == "futex" and subkind:
            return FrameKey(
                "syscall",
                {Futex.WAIT: "futex wait", Futex.WAKE: "futex wake"}.get(
                    Futex(subkind) if subkind <= Futex.WAKE else Futex.UNKNOWN, "futex"
                ),
            )
        return FrameKey("syscall", _SYSCALLS.get(name, name))
    if kind == Kind.GPU_KERNEL:
        return FrameKey("kernel", next((family for family, rule in _KERNELS if rule.search(name)), native_name(name)))
    if kind == Kind.GPU_COPY:
        return FrameKey("copy", Copy(subkind).name.lower() if 0 < subkind <= Copy.MEMSET else (name or "copy"))
    return FrameKey(symbol.module or Kind(kind).name.lower(), native_name(name) if kind == Kind.CPU_SAMPLE else name)
