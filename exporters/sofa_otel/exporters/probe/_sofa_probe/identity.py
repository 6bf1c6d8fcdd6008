"""Who this process is: rank variables, versions and a redacted command line, as text pairs for HELLO."""

import os
import sys

VARIABLES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_PROCID", "SLURM_LOCALID",
    "SLURM_NTASKS", "SLURM_NODEID", "SLURM_NNODES", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALRANKID", "JOB_COMPLETION_INDEX", "JOBSET_NAME",
    "JOB_NAME", "TF_CONFIG", "RAY_JOB_ID", "HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "SOFA_JOB_ID", "SOFA_RANK",
    "HOSTNAME", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip

_SECRET = ("token", "secret", "passw", "key", "credential", "auth", "cookie", "session")
_HIDDEN = "***"


def variables():
    """Rank and job variables that are set now."""
    get = os.environ.get
    found = []
    for name in VARIABLES:
        value = get(name)
        if value is not None:
            found.append((name, value[:200]))
    return found


def describe():
    """Everything else that HELLO tells."""
    return [
        ("python", "%d.%d.%d" % sys.version_info[:3]),
        ("implementation", sys.implementation.name),
        ("gil", str(int(getattr(sys, "_is_gil_enabled", bool_true)()))),
        ("argv", "\x1f".join(redacted(getattr(sys, "orig_argv", None) or getattr(sys, "argv", [])))),
        ("hooks", os.environ.get("SOFA_PROBE_HOOKS", "on")),
        ("job", os.environ.get("SOFA_JOB_ID", "")),
    ]


def bool_true():
    """Every interpreter before 3.13 has its lock."""
    return True


def redacted(argv):
    """A command line without what looks like a secret: values of telling options, and user information in addresses."""
    out = []
    hide = False
    for item in argv[:64]:
        item = str(item)[:300]
        name, equals, _ = item.partition("=")
        telling = any(word in name.lower() for word in _SECRET)
        if hide and not item.startswith("-"):
            item = _HIDDEN
        elif telling and equals:
            item = name + "=" + _HIDDEN
        hide = telling and not equals and item.startswith("-")
        out.append(_without_userinfo(item))
    return out


def _without_userinfo(item):
    scheme, mark, rest = item.partition("://")
    if not mark:
        return item
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    return scheme + mark + (_HIDDEN + "@" if "@" in authority else "") + host + slash + path
