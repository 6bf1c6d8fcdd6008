"""Who this process is: rank variables, versions and a redacted command line, as text pairs for HELLO."""

import os
import sys

VARIABLES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "CROSS_RANK", "MASTER_ADDR",
    "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "PET_MASTER_ADDR", "PET_NNODES", "PET_NODE_RANK",
    "PET_NPROC_PER_NODE", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NAME", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS",
    "SLURM_NPROCS", "SLURM_NODEID", "SLURM_NNODES", "SLURM_STEPID", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS",
    "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_NODE_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "PMIX_LOCAL_RANK",
    "PMIX_SIZE", "MPI_LOCALRANKID", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_SIZE",
    "MVP_COMM_WORLD_RANK", "MVP_COMM_WORLD_LOCAL_RANK", "MVP_COMM_WORLD_SIZE", "HOROVOD_RANK", "HOROVOD_SIZE",
    "HOROVOD_LOCAL_RANK", "PBS_JOBID", "LSB_JOBID", "JOB_COMPLETION_INDEX", "JOB_GLOBAL_INDEX", "JOB_INDEX", "JOBSET_NAME",
    "JOBSET_JOB_INDEX", "JOB_NAME", "TF_CONFIG", "RAY_JOB_ID", "RAY_ADDRESS", "RAY_RAYLET_PID", "KUBERNETES_SERVICE_HOST",
    "K8S_NAMESPACE_NAME", "K8S_POD_NAME", "K8S_POD_UID", "K8S_CONTAINER_NAME", "K8S_NODE_NAME", "POD_NAME", "POD_NAMESPACE",
    "POD_UID", "NODE_NAME", "HOSTNAME", "CUDA_VISIBLE_DEVICES", "OTEL_SERVICE_NAME", "SOFA_JOB_ID", "SOFA_RANK",
    "SOFA_WORLD_SIZE",
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
