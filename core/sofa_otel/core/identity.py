"""Who a process is in its job: job id and rank from what launchers leave in the environment.

The one rule: never a wrong guess. Launchers nest (srun starts torchrun starts the trainer), and each leaves its variables, so the
innermost one that numbered *this* process counts; a batch script or a login shell inside an allocation is no rank; and where two
say different things about the same numbering, the rank is None and a note says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from sofa_otel.core import names
from sofa_otel.core.containers import container_of
from sofa_otel.core.launchers import is_launcher

__all__ = ["Identity", "detect_identity", "is_launcher"]

Attribute = str | int


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a process is.

    Attributes:
        job: Job id, empty when nothing says one.
        rank, local_rank, world_size: None when not known for sure.
        node_rank: Number of the node (or pod), where one is given.
        launcher: Whose variables gave the rank (``torchrun``, ``slurm``, ``openmpi``, ``mpich``, ``mvapich``, ``kubernetes``,
            ``kubeflow``, ``ray``, ``horovod``, ``sofa``, ``environment``), empty when none did.
        attributes: Resource attributes by their OpenTelemetry names.
        notes: What was ambiguous, for ``sofa doctor`` and warnings.
    """

    job: str = ""
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    node_rank: int | None = None
    launcher: str = ""
    attributes: dict[str, Attribute] = {}
    notes: list[str] = []


class _Claim(NamedTuple):
    """What one launcher says about this process."""

    launcher: str
    rank: int
    size: int | None
    local: int | None


# (launcher, rank, size, local rank): MPI starters and Horovod set these in every process that they number, and in no other.
_MPI: Final = (
    ("horovod", "HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK"),
    ("openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("mvapich", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),
    ("mvapich", "MVP_COMM_WORLD_RANK", "MVP_COMM_WORLD_SIZE", "MVP_COMM_WORLD_LOCAL_RANK"),
    ("mpich", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("openmpi", "PMIX_RANK", "PMIX_SIZE", "PMIX_LOCAL_RANK"),
)
_SLURM_PSEUDO_STEP: Final = 0xFFFF_FF00
"""Step ids from here on are no srun: batch script 4294967291, external 4294967292, interactive shell 4294967290."""

_K8S: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("k8s.namespace.name", ("K8S_NAMESPACE_NAME", "K8S_NAMESPACE", "POD_NAMESPACE", "MY_POD_NAMESPACE")),
    ("k8s.pod.name", ("K8S_POD_NAME", "POD_NAME", "MY_POD_NAME")),
    ("k8s.pod.uid", ("K8S_POD_UID", "POD_UID", "MY_POD_UID")),
    ("k8s.node.name", ("K8S_NODE_NAME", "NODE_NAME", "MY_NODE_NAME")),
    ("k8s.container.name", ("K8S_CONTAINER_NAME",)),
    ("k8s.job.name", ("K8S_JOB_NAME",)),
    ("container.id", ("CONTAINER_ID",)),
)


def detect_identity(environ: Mapping[str, str], cgroup: str = "", mountinfo: str = "") -> Identity:
    """Identity of the process whose environment this is.

    Args:
        environ: Its environment, as it is now (Ray sets rank variables after the start).
        cgroup: Text of its ``/proc/PID/cgroup``, for pod and container.
        mountinfo: Text of its ``/proc/PID/mountinfo``, which knows them where the control group's path is hidden.
    """
    reader = _Reader(environ)
    claim = _innermost(reader)
    size = claim.size if claim else None
    if claim is not None and size is not None and not 0 <= claim.rank < size:
        reader.note(f"{claim.launcher} says rank {claim.rank} of {size}, which cannot be")
        claim, size = None, None
    attributes = _resource(reader, cgroup, mountinfo)
    job = _job(reader, attributes)
    found = Identity(
        job=job,
        rank=claim.rank if claim else None,
        local_rank=claim.local if claim else None,
        world_size=size,
        node_rank=_node_rank(reader, claim),
        launcher=claim.launcher if claim else "",
        notes=list(dict.fromkeys(reader.notes)),
    )
    for name, value in (
        (names.JOB_ID, found.job or None),
        (names.RANK, found.rank),
        (names.LOCAL_RANK, found.local_rank),
        (names.WORLD_SIZE, found.world_size),
    ):
        if value is not None:
            attributes[name] = value
    return msgspec.structs.replace(found, attributes=attributes)


class _Reader:
    """Reads numbers and words from an environment and remembers what was strange."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def word(self, *keys: str) -> str:
        """The first of ``keys`` that is set to something."""
        return next((value for key in keys if (value := self._environ.get(key, "").strip())), "")

    def number(self, *keys: str) -> int | None:
        """The first of ``keys`` that is set, if it is a number from 0 on."""
        for key in keys:
            text = self._environ.get(key, "").strip()
            if not text:
                continue
            if text.isascii() and text.isdigit() and len(text) < 10:
                return int(text)
            self.note(f"{key}={text[:40]!r} is not a number: ignored")
        return None

    def has(self, *keys: str) -> bool:
        return any(self._environ.get(key, "").strip() for key in keys)


def _innermost(reader: _Reader) -> _Claim | None:
    if (rank := reader.number("SOFA_RANK")) is not None:
        return _Claim("sofa", rank, reader.number("SOFA_WORLD_SIZE", "WORLD_SIZE"), reader.number("LOCAL_RANK"))
    generic = _generic(reader)
    if generic is not None and generic.launcher == "torchrun":
        return generic  # torchrun numbers its own children and is always the innermost
    outer = _mpi(reader) or _slurm(reader)
    if generic is not None and outer is not None:
        return _agree(reader, generic, outer)
    return generic or outer or _indexed_job(reader)


def _generic(reader: _Reader) -> _Claim | None:
    """``RANK`` and its companions: torchrun's, DeepSpeed's, Ray's, an operator's, or exported by hand."""
    rank, size, local = reader.number("RANK"), reader.number("WORLD_SIZE"), reader.number("LOCAL_RANK")
    if rank is None:
        return None
    if reader.has("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT") and local is not None:
        return _Claim("torchrun", rank, size, local)
    if local is None and reader.has("PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE"):
        per_node = reader.word("PET_NPROC_PER_NODE")
        if per_node not in ("", "1"):
            reader.note(f"RANK={rank} is the pod's number: {per_node} processes a pod are still to be started")
            return None
        return _Claim("kubeflow", rank, size, None)
    if reader.has("KUBERNETES_SERVICE_HOST") and local is None and reader.has("MASTER_ADDR"):
        return _Claim("kubeflow", rank, size, None)
    launcher = "ray" if reader.has("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_ADDRESS") else "environment"
    return _Claim(launcher, rank, size, local)


def _mpi(reader: _Reader) -> _Claim | None:
    for launcher, rank_key, size_key, local_key in _MPI:
        rank = reader.number(rank_key)
        if rank is not None:
            return _Claim(launcher, rank, reader.number(size_key), reader.number(local_key))
    return None


def _slurm(reader: _Reader) -> _Claim | None:
    if not reader.has("SLURM_JOB_ID", "SLURM_JOBID"):
        return None
    step, rank = reader.number("SLURM_STEP_ID", "SLURM_STEPID") if _small_step(reader) else None, reader.number("SLURM_PROCID")
    if step is None or rank is None:
        if not reader.has("RANK"):
            reader.note("inside a Slurm allocation, but not a task of srun: no rank")
        return None
    size = reader.number("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
    return _Claim("slurm", rank, size, reader.number("SLURM_LOCALID"))


def _small_step(reader: _Reader) -> bool:
    text = reader.word("SLURM_STEP_ID", "SLURM_STEPID")
    return text.isascii() and text.isdigit() and int(text[:12]) < _SLURM_PSEUDO_STEP


def _agree(reader: _Reader, generic: _Claim, outer: _Claim) -> _Claim | None:
    """``RANK`` beside an MPI or Slurm rank: the same numbering twice, a launcher inside a launcher, or a contradiction."""
    if generic.rank == outer.rank and generic.size in (None, outer.size):
        return outer._replace(local=outer.local if outer.local is not None else generic.local)
    if outer.size is None and generic.rank == outer.rank:
        return outer._replace(size=generic.size)
    if generic.local is not None and generic.size is not None and outer.size is not None and generic.size > outer.size:
        return generic  # one outer task a node, whose processes were numbered by another launcher
    reader.note(
        f"RANK={generic.rank} (of {generic.size}) contradicts {outer.launcher}'s rank {outer.rank} (of {outer.size}): "
        "no rank is assumed; set SOFA_RANK to tell"
    )
    return None


def _indexed_job(reader: _Reader) -> _Claim | None:
    """A pod of an Indexed Job that runs one process."""
    index = reader.number("JOB_COMPLETION_INDEX")
    if index is None:
        return None
    if reader.has("PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE"):
        reader.note(f"JOB_COMPLETION_INDEX={index} is the pod's number: torchrun is still to number its processes")
        return None
    if reader.has("JOBSET_NAME") and reader.number("JOB_GLOBAL_INDEX", "JOB_INDEX", "JOBSET_JOB_INDEX") != 0:
        reader.note(f"JOB_COMPLETION_INDEX={index} counts within one of a JobSet's jobs: no rank is assumed")
        return None
    return _Claim("kubernetes", index, reader.number("WORLD_SIZE"), None)


def _node_rank(reader: _Reader, claim: _Claim | None) -> int | None:
    node = reader.number("GROUP_RANK", "NODE_RANK", "PET_NODE_RANK", "SLURM_NODEID", "OMPI_COMM_WORLD_NODE_RANK", "CROSS_RANK")
    if node is None and claim is None:
        return reader.number("JOB_COMPLETION_INDEX")
    return node


def _job(reader: _Reader, attributes: dict[str, Attribute]) -> str:
    if given := reader.word("SOFA_JOB_ID") or str(attributes.get(names.JOB_ID, "")):
        return given
    if (run := reader.word("TORCHELASTIC_RUN_ID")) not in ("", "none"):
        return run
    if reader.has("SLURM_JOB_ID", "SLURM_JOBID"):
        array, task = reader.word("SLURM_ARRAY_JOB_ID"), reader.word("SLURM_ARRAY_TASK_ID")
        return f"{array}_{task}" if array and task else reader.word("SLURM_JOB_ID", "SLURM_JOBID")
    for name in ("k8s.job.name",):
        if name in attributes:
            return str(attributes[name])
    return reader.word("JOBSET_NAME") or _job_of_pod(reader, attributes) or reader.word("RAY_JOB_ID", "PBS_JOBID", "LSB_JOBID")


def _job_of_pod(reader: _Reader, attributes: dict[str, Attribute]) -> str:
    """The Job's name in its pod's name (``<job>-<index>-<suffix>``, ``<job>-worker-<n>``)."""
    if not reader.has("KUBERNETES_SERVICE_HOST"):
        return ""
    pod = str(attributes.get("k8s.pod.name", "")) or reader.word("HOSTNAME")
    index = reader.word("JOB_COMPLETION_INDEX")
    if index and (match := re.fullmatch(rf"(.+)-{re.escape(index)}(?:-[a-z0-9]{{5}})?", pod)):
        return match[1]
    if reader.has("MASTER_ADDR", "PET_MASTER_ADDR") and (match := re.fullmatch(r"(.+)-(?:master|worker)-\d+", pod)):
        return match[1]
    return ""


def _resource(reader: _Reader, cgroup: str, mountinfo: str) -> dict[str, Attribute]:
    out: dict[str, Attribute] = {}
    for pair in reader.word("OTEL_RESOURCE_ATTRIBUTES").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip() and value.strip():
            out[key.strip()] = _percent_decoded(value.strip())
    if service := reader.word("OTEL_SERVICE_NAME"):
        out[names.SERVICE_NAME] = service
    for name, keys in _K8S:
        if value := reader.word(*keys):
            out[name] = value
    place = container_of(cgroup, mountinfo)
    if place.pod_uid:
        out["k8s.pod.uid"] = place.pod_uid
    if place.container_id:
        out["container.id"] = place.container_id
    return out


def _percent_decoded(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)
