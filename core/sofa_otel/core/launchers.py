"""Launchers: programs that start ranks and are none themselves (torchrun, mpirun, srun …), known by their command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

# fmt: off
_PROGRAMS: Final = frozenset((
    "torchrun", "mpirun", "mpiexec", "mpiexec.hydra", "mpiexec.openmpi", "mpirun.openmpi", "mpirun.mpich", "mpirun_rsh",
    "mpiexec.mpich", "orterun", "prun", "prterun", "prte", "prted", "orted", "hydra_pmi_proxy", "hydra_bstrap_proxy", "pmi_proxy",
    "srun", "sbatch", "salloc", "slurmstepd", "ibrun", "aprun", "jsrun", "horovodrun", "deepspeed", "composer",
))
_MODULES: Final = frozenset((
    "torch.distributed.run", "torch.distributed.launch", "torchrun", "deepspeed", "deepspeed.launcher.runner",
    "deepspeed.launcher.launch", "accelerate.commands.launch", "horovod.runner", "horovod.runner.launch", "horovod.run",
    "composer.cli.launcher", "torch.backends.xeon.run_cpu",
))
# fmt: on
_WITH_WORD: Final = {
    "accelerate": frozenset({"launch", "tpu-config"}),
    "accelerate.commands.accelerate_cli": frozenset({"launch"}),
    "colossalai": frozenset({"run"}),
    "flux": frozenset({"run", "submit", "batch", "alloc"}),
    "ray": frozenset({"submit", "job"}),
}
"""Programs that are launchers only with one of these as their first word."""

_PYTHON: Final = re.compile(r"(?:python|pypy)[0-9.]*[a-z]*")
_PYTHON_OPTIONS_WITH_VALUE: Final = frozenset({"-X", "-W", "--check-hash-based-pycs"})
# Programs that run another one in their place, with the options that take a value.
_WRAPPERS: Final[dict[str, frozenset[str]]] = {
    "env": frozenset({"-u", "--unset", "-C", "--chdir"}),
    "nohup": frozenset(),
    "setsid": frozenset(),
    "exec": frozenset(),
    "time": frozenset({"-f", "-o"}),
    "nice": frozenset({"-n", "--adjustment"}),
    "ionice": frozenset({"-c", "-n"}),
    "stdbuf": frozenset({"-i", "-o", "-e"}),
    "numactl": frozenset({"-N", "-m", "-C", "-i", "-p"}),
}
_WRAPPERS_WITH_WORD: Final[dict[str, frozenset[str]]] = {
    "timeout": frozenset({"-k", "-s", "--kill-after", "--signal"}),
    "taskset": frozenset(),
}
"""Wrappers whose first plain word (a duration, a mask) is their own."""


def is_launcher(argv: Sequence[str]) -> bool:
    """Whether a command line is a launcher's, which starts ranks and is never one.

    Args:
        argv: As in ``/proc/PID/cmdline``, or as a user types it (``env``, ``nice`` and the like are seen through).
    """
    words = list(argv)
    for _ in range(8):
        if not words:
            return False
        program = words[0].rpartition("/")[2]
        if program in _WRAPPERS or program in _WRAPPERS_WITH_WORD:
            words = _unwrapped(program, words[1:])
        elif _PYTHON.fullmatch(program):
            return _python_launches(words[1:])
        else:
            return _launches(program, words[1:])
    return False


def _launches(program: str, rest: Sequence[str]) -> bool:
    # A daemon may decorate its name: "slurmstepd: [123.0]".
    program = program.partition(":")[0].removesuffix(".py").removesuffix(".exe")
    return program in _PROGRAMS or _has_word(program, rest)


def _python_launches(words: Sequence[str]) -> bool:
    skip = False
    for i, word in enumerate(words):
        if skip:
            skip = False
        elif word == "-m":
            module = words[i + 1] if i + 1 < len(words) else ""
            return module in _MODULES or _has_word(module, words[i + 2 :])
        elif word.startswith("-m") and not word.startswith("--"):
            return word[2:] in _MODULES
        elif word == "-c":
            return False
        elif word.startswith("-"):
            skip = word in _PYTHON_OPTIONS_WITH_VALUE
        else:
            path = word.removesuffix(".py").replace("/", ".")
            known_file = any(path.endswith(f".{module}") for module in _MODULES if "." in module)
            return known_file or _launches(word.rpartition("/")[2], words[i + 1 :])
    return False


def _has_word(program: str, rest: Sequence[str]) -> bool:
    wanted = _WITH_WORD.get(program)
    return wanted is not None and next((word for word in rest if not word.startswith("-")), "") in wanted


def _unwrapped(program: str, words: list[str]) -> list[str]:
    own = 1 if program in _WRAPPERS_WITH_WORD else 0
    with_value = _WRAPPERS.get(program, frozenset()) | _WRAPPERS_WITH_WORD.get(program, frozenset())
    i = 0
    while i < len(words):
        word = words[i]
        if word == "--":
            return words[i + 1 + own :]
        if word.startswith("-"):
            i += 2 if word in with_value else 1
        elif program == "env" and "=" in word:
            i += 1
        elif own:
            own -= 1
            i += 1
        else:
            return words[i:]
    return []
