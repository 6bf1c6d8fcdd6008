"""The catalogue of training jobs: the examples, jobs of other styles, and jobs with an injected cause."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.trainers import ROOT

EXAMPLES = ROOT / "examples"
JOBS = ROOT / "tests" / "e2e" / "jobs"


@dataclass(frozen=True)
class Job:
    """One way to run a training script.

    Attributes:
        name: Unique in the catalogue.
        script: The program.
        trainer: Environment it needs, ``demo`` or ``torch``.
        arguments: Beside ``--truth`` and ``--steps``.
        steps: Value of ``--steps``, None if the script has none.
        ranks: Processes that train.
        cause: Finding id that is injected; empty if nothing is.
        environment: Variables beside ``OMP_NUM_THREADS=1``.
        prefix: Put before the interpreter (``torchrun`` is put after it with ``launcher``).
        launcher: Module that starts the script, as ``torch.distributed.run``, with its arguments.
    """

    name: str
    script: Path
    trainer: str = "demo"
    arguments: tuple[str, ...] = ()
    steps: int | None = None
    ranks: int = 1
    cause: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    prefix: tuple[str, ...] = ()
    launcher: tuple[str, ...] = ()

    @property
    def iterates(self) -> bool:
        """Whether there is a training loop to find."""
        return self.steps is not None

    def scaled(self, factor: float) -> Job:
        """The same job with ``factor`` times the steps."""
        return self if self.steps is None else replace(self, steps=max(1, round(self.steps * factor)))


EXAMPLE_JOBS = (
    Job("digits", EXAMPLES / "train_digits.py", steps=240),
    Job("cnn", EXAMPLES / "train_torch_cnn.py", "torch", steps=300),
    Job("gpt", EXAMPLES / "train_torch_gpt.py", "torch", steps=120),
    Job("ddp", EXAMPLES / "train_torch_ddp.py", "torch", steps=300, ranks=2),
)

STYLE_JOBS = (
    Job("numpy-inline", JOBS / "numpy_mlp_inline.py", steps=300),
    Job("sklearn-partial-fit", JOBS / "sklearn_partial_fit.py", steps=300),
    Job("sklearn-fit", JOBS / "sklearn_fit.py", steps=50),
    Job("trainer-callbacks", JOBS / "trainer_callbacks.py", steps=300),
    Job("training-thread", JOBS / "training_thread.py", steps=250),
    Job("threadpool-loader", JOBS / "threadpool_loader.py", steps=320),
    Job("while-generator", JOBS / "while_generator.py", steps=700),
    Job("short-epochs", JOBS / "short_epochs.py", steps=320),
    Job("torch-closure", JOBS / "torch_closure.py", "torch", steps=300),
    Job("torch-gan", JOBS / "torch_gan.py", "torch", steps=300),
    Job("never-iterates", JOBS / "never_iterates.py", arguments=("--scale", "2")),
)

_QUOTA = (str(JOBS / "in_cgroup.py"), "--cpus")

CAUSE_JOBS = (
    Job("healthy", JOBS / "cause_healthy.py", steps=300),
    Job("loader-cpu", JOBS / "cause_loader.py", steps=150, cause="loader-bound"),
    Job("loader-wait", JOBS / "cause_loader.py", arguments=("--work", "wait"), steps=150, cause="loader-bound"),
    Job("digits", EXAMPLES / "train_digits.py", steps=150, cause="loader-bound"),
    Job("threads-16", JOBS / "cause_threads.py", steps=120, cause="thread-oversubscription"),
    Job(
        "threads-processes",
        JOBS / "cause_threads.py",
        arguments=("--processes", "6", "--threads", "4", "--size", "400"),
        steps=100,
        cause="thread-oversubscription",
    ),
    Job("quota-40", JOBS / "cause_healthy.py", steps=120, cause="cpu-quota", prefix=(*_QUOTA, "0.4", "--")),
    Job("quota-70", JOBS / "cause_healthy.py", steps=160, cause="cpu-quota", prefix=(*_QUOTA, "0.7", "--")),
    Job("disk-read", JOBS / "cause_disk.py", arguments=("--mode", "read"), steps=250, cause="disk-bound"),
    Job("disk-fsync", JOBS / "cause_disk.py", arguments=("--mode", "fsync"), steps=200, cause="disk-bound"),
    Job("gil-3", JOBS / "cause_gil.py", steps=80, cause="gil-bound"),
    Job("gil-6", JOBS / "cause_gil.py", arguments=("--threads", "6"), steps=60, cause="gil-bound"),
)


def select(names: str, catalogue: tuple[Job, ...]) -> list[Job]:
    """Jobs by comma-separated names; empty means all.

    Raises:
        SystemExit: A name is not in the catalogue.
    """
    if not names:
        return list(catalogue)
    known = {job.name: job for job in catalogue}
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"unknown job {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in wanted]
