"""Environments as launchers leave them → who a process is. Never a wrong guess: what contradicts itself has no rank."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_otel.core.identity import detect_identity, is_launcher

TORCHRUN = {
    "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2",
    "ROLE_RANK": "5", "ROLE_NAME": "default", "ROLE_WORLD_SIZE": "8", "MASTER_ADDR": "node0", "MASTER_PORT": "29500",
    "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0", "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "4711", "SLURM_JOBID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_ID": "0", "SLURM_STEPID": "0",
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NNODES": "2", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}  # fmt: skip
SBATCH = {
    "SLURM_JOB_ID": "4711", "SLURM_JOBID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4",
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_TASK_PID": "99", "SLURM_NNODES": "2",
}  # fmt: skip
OPENMPI = {
    "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_NODE_RANK": "0", "PMIX_RANK": "2",
    "PMIX_NAMESPACE": "prterun-node0-99@1", "OMPI_UNIVERSE_SIZE": "4",
}  # fmt: skip
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "3", "PMI_FD": "9", "MPI_LOCALNRANKS": "3", "MPI_LOCALRANKID": "1"}
POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_PORT": "tcp://10.96.0.1:443"}
INDEXED = POD | {"JOB_COMPLETION_INDEX": "2", "HOSTNAME": "mnist-2-x7k2p"}
PYTORCHJOB = POD | {
    "RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "mnist-master-0", "MASTER_PORT": "23456", "HOSTNAME": "mnist-worker-0",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip
RAY = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "NODE_RANK": "0", "LOCAL_WORLD_SIZE": "2", "RAY_JOB_ID": "03000000"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, {"launcher": "", "rank": None, "job": ""}),
        (TORCHRUN, {"launcher": "torchrun", "rank": 5, "local_rank": 1, "world_size": 8, "node_rank": 1, "job": ""}),
        (TORCHRUN | {"TORCHELASTIC_RUN_ID": "exp-7"}, {"job": "exp-7"}),
        (SRUN, {"launcher": "slurm", "rank": 3, "local_rank": 1, "world_size": 4, "node_rank": 1, "job": "4711"}),
        (SRUN | {"SLURM_ARRAY_JOB_ID": "4700", "SLURM_ARRAY_TASK_ID": "11"}, {"rank": 3, "job": "4700_11"}),
        # srun with fewer tasks than the allocation: the step's size counts.
        (SRUN | {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, {"rank": 1, "world_size": 2}),
        # A batch script, its interactive step and a login shell inside an allocation are no rank 0 of 4.
        (SBATCH, {"launcher": "", "rank": None, "world_size": None, "job": "4711"}),
        (SBATCH | {"SLURM_STEP_ID": "4294967291"}, {"rank": None, "job": "4711"}),
        (SBATCH | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}, {"rank": None}),
        ({"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4"}, {"rank": None, "job": "4711"}),
        # torchrun below srun: one task a node, torchrun numbers the processes.
        (
            SRUN | {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"} | TORCHRUN,
            {"launcher": "torchrun", "rank": 5, "job": "4711"},
        ),
        (SBATCH | TORCHRUN, {"launcher": "torchrun", "rank": 5, "world_size": 8}),
        # DeepSpeed's launcher below srun, without torchrun's variables.
        (
            SRUN | {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16"},
            {"launcher": "environment", "rank": 9, "local_rank": 1, "world_size": 16},
        ),
        # The usual wrapper: export RANK=$SLURM_PROCID.
        (SRUN | {"RANK": "3", "WORLD_SIZE": "4"}, {"launcher": "slurm", "rank": 3, "world_size": 4, "local_rank": 1}),
        # A stale RANK of the batch script, inherited by every task.
        (SRUN | {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, {"launcher": "", "rank": None, "world_size": None}),
        (SRUN | {"RANK": "0"}, {"rank": None}),
        (OPENMPI, {"launcher": "openmpi", "rank": 2, "local_rank": 0, "world_size": 4}),
        # mpirun started its daemons by srun: their task number is inherited and means nothing.
        (SRUN | {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"} | OPENMPI, {"launcher": "openmpi", "rank": 2, "job": "4711"}),
        ({"PMIX_RANK": "6", "PMIX_NAMESPACE": "x"}, {"launcher": "openmpi", "rank": 6, "world_size": None}),
        (HYDRA, {"launcher": "mpich", "rank": 1, "world_size": 3, "local_rank": 1}),
        (
            {"MV2_COMM_WORLD_RANK": "0", "MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_LOCAL_RANK": "0", "PMI_RANK": "0"},
            {"launcher": "mvapich", "rank": 0, "world_size": 2},
        ),
        ({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "1"} | OPENMPI, {"launcher": "horovod", "rank": 1}),
        (INDEXED, {"launcher": "kubernetes", "rank": 2, "world_size": None, "job": "mnist"}),
        (INDEXED | {"HOSTNAME": "mnist-2"}, {"job": "mnist"}),
        (INDEXED | {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "8"}, {"rank": None, "node_rank": 2}),
        (INDEXED | TORCHRUN, {"launcher": "torchrun", "rank": 5, "job": "mnist"}),
        (INDEXED | {"JOBSET_NAME": "big", "JOB_INDEX": "1"}, {"rank": None, "job": "big"}),
        (INDEXED | {"JOBSET_NAME": "big", "JOB_GLOBAL_INDEX": "0"}, {"rank": 2, "job": "big"}),
        (PYTORCHJOB, {"launcher": "kubeflow", "rank": 1, "world_size": 3, "job": "mnist"}),
        # Elastic PyTorchJob: RANK is the pod's, torchrun in the pod numbers the processes.
        (
            PYTORCHJOB | {"PET_NPROC_PER_NODE": "4", "PET_NNODES": "3", "PET_NODE_RANK": "1", "WORLD_SIZE": "12"},
            {"rank": None, "node_rank": 1, "launcher": ""},
        ),
        (PYTORCHJOB | {"PET_NPROC_PER_NODE": "auto", "PET_NNODES": "3", "PET_NODE_RANK": "1"}, {"rank": None}),
        (PYTORCHJOB | {"PET_NPROC_PER_NODE": "1", "PET_NNODES": "3", "PET_NODE_RANK": "1"}, {"rank": 1, "world_size": 3}),
        (RAY, {"launcher": "ray", "rank": 1, "local_rank": 1, "world_size": 4, "node_rank": 0, "job": "03000000"}),
        ({"SOFA_RANK": "7", "SOFA_JOB_ID": "mine"} | OPENMPI | SRUN, {"launcher": "sofa", "rank": 7, "job": "mine"}),
        ({"RANK": "4", "WORLD_SIZE": "4"}, {"rank": None, "world_size": None}),
        ({"RANK": "-1"}, {"rank": None}),
        ({"RANK": "zero"}, {"rank": None}),
        ({"RANK": ""}, {"rank": None}),
        ({"PBS_JOBID": "12.server"}, {"job": "12.server", "rank": None}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "sofa.job.id=a%20b,k8s.job.name=x"}, {"job": "a b"}),
    ],
)
def test_recorded_environments(environ: dict[str, str], wanted: dict[str, Any]) -> None:
    found = detect_identity(environ)
    assert {key: getattr(found, key) for key in wanted} == wanted


def test_what_is_ambiguous_is_said() -> None:
    assert "contradicts" in detect_identity(SRUN | {"RANK": "0"}).notes[0]
    assert "SOFA_RANK" in detect_identity(SRUN | {"RANK": "0"}).notes[0]
    assert "allocation" in detect_identity(SBATCH).notes[0]
    assert "pod's" in detect_identity(PYTORCHJOB | {"PET_NPROC_PER_NODE": "4"}).notes[0]
    assert "cannot be" in detect_identity({"RANK": "4", "WORLD_SIZE": "4"}).notes[0]
    assert detect_identity(TORCHRUN).notes == []
    assert detect_identity({}).notes == []


def test_resource_attributes() -> None:
    environ = TORCHRUN | {
        "K8S_POD_NAME": "mnist-0-abcde", "POD_NAMESPACE": "ml", "NODE_NAME": "n1", "K8S_CONTAINER_NAME": "trainer",
        "K8S_JOB_NAME": "mnist",
        "OTEL_SERVICE_NAME": "svc", "OTEL_RESOURCE_ATTRIBUTES": "team=a,broken,=x,deployment.environment=prod",
    }  # fmt: skip
    assert detect_identity(environ).attributes == {
        "k8s.pod.name": "mnist-0-abcde", "k8s.namespace.name": "ml", "k8s.node.name": "n1", "k8s.container.name": "trainer",
        "k8s.job.name": "mnist", "service.name": "svc", "team": "a", "deployment.environment": "prod", "sofa.job.id": "mnist",
        "sofa.rank": 5, "sofa.local_rank": 1, "sofa.world_size": 8,
    }  # fmt: skip


C = "0123456789abcdef" * 4
D = "fedcba9876543210" * 4
V = "12345678_9abc_def0_1234_56789abcdef0"
U = "12345678-9abc-def0-1234-56789abcdef0"


@pytest.mark.parametrize(
    ("text", "pod", "container"),
    [
        (f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{V}.slice/cri-containerd-{C}.scope", U, C),
        (f"0::/kubepods.slice/kubepods-pod{V}.slice/crio-{C}.scope", U, C),
        (f"12:memory:/kubepods/burstable/pod{U}/{C}\n11:cpu,cpuacct:/kubepods/burstable/pod{U}/{C}\n0::/", U, C),
        (f"12:cpu:/kubepods/besteffort/pod{'0' * 31}a/{C}", "0" * 31 + "a", C),
        (f"11:memory:/docker/{C}\n1:name=systemd:/docker/{C}", "", C),
        (f"0::/system.slice/docker-{C}.scope", "", C),
        (f"0::/machine.slice/libpod-{C}.scope/container", "", C),
        (f"0::/docker/{D}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{V}.slice/cri-containerd-{C}.scope", U, C),
        (f"2:cpu:/system.slice/containerd.service/kubepods-burstable-pod{V}.slice:cri-containerd:{C}", U, C),
        ("0::/", "", ""),
        ("0::/user.slice/user-1000.slice/session-2.scope", "", ""),
        ("0::/slurm/uid_1000/job_4711/step_0/task_3", "", ""),
        ("", "", ""),
        ("garbage", "", ""),
    ],
)  # fmt: skip
def test_pod_and_container(text: str, pod: str, container: str) -> None:
    found = detect_identity({}, cgroup=text).attributes
    assert (found.get("k8s.pod.uid", ""), found.get("container.id", "")) == (pod, container)


def test_mount_table_helps_where_the_namespace_hides_the_path() -> None:
    text = (
        f"900 880 8:1 /var/lib/kubelet/pods/{U}/etc-hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw\n"
        f"901 880 0:50 /containers/{C}/hostname /etc/hostname rw - tmpfs tmpfs rw\n"
    )
    found = detect_identity({}, cgroup="0::/", mountinfo=text).attributes
    assert found == {"k8s.pod.uid": U, "container.id": C}


@given(st.dictionaries(st.sampled_from([*TORCHRUN, *SRUN, *OPENMPI, *HYDRA, *INDEXED, *PYTORCHJOB, *RAY]), st.text(max_size=8)))
@settings(max_examples=300, deadline=None)
def test_any_environment_is_taken(environ: dict[str, str]) -> None:
    found = detect_identity(environ, cgroup="".join(environ.values()))
    if found.rank is not None:
        assert found.rank >= 0
        assert found.world_size is None or found.rank < found.world_size
        assert found.launcher


@pytest.mark.parametrize(
    "line",
    [
        "torchrun --nproc-per-node 2 train.py",
        "/opt/conda/bin/python3.11 /opt/conda/bin/torchrun --standalone train.py",
        "python -u -X dev -m torch.distributed.run --nproc_per_node=2 train.py",
        "python -mtorch.distributed.launch train.py",
        "python /usr/lib/python3/dist-packages/torch/distributed/run.py train.py",
        "mpirun -np 4 python train.py",
        "mpiexec.hydra -n 2 python t.py",
        "/usr/bin/orted -mca x y",
        "hydra_pmi_proxy --control-port a:1",
        "srun -n 4 python train.py",
        "slurmstepd: [4711.0]",
        "accelerate launch --num_processes 2 train.py",
        "python -m accelerate.commands.accelerate_cli launch train.py",
        "python3 /usr/local/bin/accelerate launch train.py",
        "deepspeed --num_gpus 2 train.py",
        "python -m deepspeed.launcher.launch --world_info=x train.py",
        "horovodrun -np 2 python train.py",
        "env -u A B=1 OMP_NUM_THREADS=1 torchrun train.py",
        "nohup nice -n 10 torchrun train.py",
        "timeout -k 5 60 mpirun -np 2 a",
        "taskset 0x3 torchrun train.py",
        "numactl -N 0 -m 0 -- torchrun train.py",
        "flux run -n 2 python train.py",
    ],
)
def test_launchers_are_known(line: str) -> None:
    assert is_launcher(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "", "python train.py", "python -c import(torchrun)", "python torchrun_helper.py",
        "python -m train torch.distributed.run", "python train.py -m torch.distributed.run", "python train.py torchrun",
        "accelerate config", "accelerate",
        "bash -c torchrun",
        "python -m pytest", "env", "env A=1", "timeout 5", "python", "python -m", "nice -n", "vim mpirun",
        "python -W ignore train.py", "./my-torchrun", "python -X", "jupyter-lab", "flux", "ray start",
    ],
)  # fmt: skip
def test_trainers_are_no_launchers(line: str) -> None:
    assert not is_launcher(line.split())
