"""Every name that leaves the process: metrics, attributes, span names and the closed vocabularies.

OpenTelemetry semantic conventions as they are; ours only under ``sofa.``. Nothing else in the project spells a name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Phase(StrEnum):
    """``sofa.phase``: what the training loop is doing."""

    DATA_LOADING = "data_loading"
    MODEL_FORWARD = "model_forward"
    MODEL_BACKWARD = "model_backward"
    OPTIMIZER_UPDATE = "optimizer_update"
    CHECKPOINT_SAVE = "checkpoint_save"
    VALIDATION = "validation"
    UNKNOWN = "unknown"


class Resource(StrEnum):
    """``sofa.resource``: what an iteration waits for."""

    CPU_USER = "cpu_user"
    CPU_SYSTEM = "cpu_system"
    GPU_COMPUTE = "gpu_compute"
    COMMUNICATION = "communication"
    COPY = "copy"
    LOADER = "loader"
    DISK = "disk"
    NETWORK = "network"
    SYNC = "sync"
    IDLE = "idle"


class SwarmKind(StrEnum):
    """``sofa.swarm.kind``."""

    COMPUTE = "compute"
    COMMUNICATION = "communication"
    INPUT = "input"
    CHECKPOINT = "checkpoint"
    IDLE = "idle"
    OTHER = "other"


class IterationKind(StrEnum):
    """``sofa.iteration.kind``."""

    TRAIN = "train"
    WARMUP = "warmup"
    VALIDATION = "validation"
    CHECKPOINT = "checkpoint"
    OTHER = "other"


class FindingId(StrEnum):
    """``sofa.finding.id``."""

    LOADER_BOUND = "loader-bound"
    CPU_QUOTA = "cpu-quota"
    THREAD_OVERSUBSCRIPTION = "thread-oversubscription"
    GIL_BOUND = "gil-bound"
    LAUNCH_BOUND = "launch-bound"
    NETWORK_BOUND = "network-bound"
    EXPOSED_COMMUNICATION = "exposed-communication"
    DISK_BOUND = "disk-bound"
    STRAGGLER_RANK = "straggler-rank"
    COPY_BOUND = "copy-bound"
    CHECKPOINT_STALL = "checkpoint-stall"
    MEMORY_PRESSURE = "memory-pressure"
    GPU_THROTTLED = "gpu-throttled"
    RETRANSMITS = "retransmits"


class CorrelationStatus(StrEnum):
    """How much evidence a swarm-resource edge has: one test, both tests, an intervention."""

    CANDIDATE = "candidate"
    ASSOCIATED = "associated"
    CONFIRMED = "confirmed"


class Severity(StrEnum):
    """Severity of findings and alerts."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Instrument(StrEnum):
    """OpenTelemetry instrument kinds that we use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """Definition of a metric: its OpenTelemetry name, UCUM unit, instrument and description."""

    name: str
    unit: str
    instrument: Instrument
    description: str


C, G, H = Instrument.COUNTER, Instrument.GAUGE, Instrument.HISTOGRAM

# -- attributes ----------------------------------------------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
HOST_NAME: Final = "host.name"
PROCESS_PID: Final = "process.pid"
JOB_ID: Final = "sofa.job.id"
RANK: Final = "sofa.rank"
LOCAL_RANK: Final = "sofa.local_rank"
WORLD_SIZE: Final = "sofa.world_size"
ITERATION_INDEX: Final = "sofa.iteration.index"
ITERATION_JOB_INDEX: Final = "sofa.iteration.job_index"
ITERATION_CONFIDENCE: Final = "sofa.iteration.confidence"
ITERATION_SOURCE: Final = "sofa.iteration.source"
ITERATION_PERIOD: Final = "sofa.iteration.period"
ITERATION_KIND: Final = "sofa.iteration.kind"
ITERATION_LEVEL: Final = "sofa.iteration.level"
ITERATION_ANOMALOUS: Final = "sofa.iteration.anomalous"
SWARM_ID: Final = "sofa.swarm.id"
SWARM_CAPTION: Final = "sofa.swarm.caption"
SWARM_KIND: Final = "sofa.swarm.kind"
PHASE: Final = "sofa.phase"
RESOURCE: Final = "sofa.resource"
RESOURCE_METRIC: Final = "sofa.resource.metric"
FINDING_ID: Final = "sofa.finding.id"
COLLECTOR: Final = "sofa.collector"
CALLS: Final = "sofa.calls"
IO_BYTES: Final = "sofa.io.bytes"
ITERATION_SCORE: Final = "sofa.iteration.score"
SWARM_CONCURRENT: Final = "sofa.swarm.concurrent"
"""True for time of other threads and processes that ran beside the rank's leading thread."""
SAMPLE_RATIO: Final = "sofa.sample.ratio"
"""Share of a rank's iterations that leave spans; 1 for those kept because they are anomalous."""

# -- attributes of single events as spans -------------------------------------------------------------------------------------
CODE_FILE: Final = "code.file.path"
CODE_LINE: Final = "code.line.number"
CODE_STACK: Final = "code.stacktrace"
THREAD_ID: Final = "thread.id"
SYMBOL_MODULE: Final = "sofa.symbol.module"
SYMBOL_OFFSET: Final = "sofa.symbol.offset"
EVENT_KIND: Final = "sofa.event.kind"
EVENT_SUBKIND: Final = "sofa.event.subkind"
EVENT_DEVICE: Final = "sofa.event.device"
EVENT_PEER: Final = "sofa.event.peer"
EVENT_LINK: Final = "sofa.event.link"
SOURCE: Final = "sofa.source"
SOURCE_SEQ: Final = "sofa.source.seq"
CLOCK: Final = "sofa.clock"

# -- attributes of resource points (semantic conventions; ours under sofa.) ------------------------------------------------------
CPU_MODE: Final = "cpu.mode"
CPU_LOGICAL_NUMBER: Final = "cpu.logical_number"
MEMORY_STATE: Final = "system.memory.state"
DISK_DIRECTION: Final = "disk.io.direction"
SYSTEM_DEVICE: Final = "system.device"
NETWORK_DIRECTION: Final = "network.io.direction"
NETWORK_INTERFACE: Final = "network.interface.name"
CONTEXT_SWITCH_TYPE: Final = "process.context_switch.type"
PAGING_FAULT_TYPE: Final = "system.paging.fault.type"
HW_ID: Final = "hw.id"
HW_NAME: Final = "hw.name"
HW_TYPE: Final = "hw.type"
ERROR_TYPE: Final = "error.type"
GPU_TASK: Final = "hw.gpu.task"
PRESSURE_RESOURCE: Final = "sofa.pressure.resource"
PRESSURE_KIND: Final = "sofa.pressure.kind"
PERIOD_STATE: Final = "sofa.cgroup.period.state"
THREAD_STATE: Final = "sofa.thread.state"
THROTTLE_REASON: Final = "sofa.gpu.throttle.reason"

# -- spans ---------------------------------------------------------------------------------------------------------------------
SPAN_ITERATION: Final = "sofa.iteration"
SPAN_SWARM: Final = "sofa.swarm"

# -- our metrics ---------------------------------------------------------------------------------------------------------------
ITERATION_COUNT = Metric("sofa.iteration.count", "{iteration}", C, "Iterations completed, by kind.")
ITERATION_TIME = Metric("sofa.iteration.time", "s", C, "Time spent in completed iterations, by kind.")
ITERATION_PHASE_TIME = Metric("sofa.iteration.phase.time", "s", C, "Time spent in each phase of the training loop.")
ITERATION_BOTTLENECK_TIME = Metric("sofa.iteration.bottleneck.time", "s", C, "Exposed time by what the iteration waited for.")
ITERATION_LAST = Metric("sofa.iteration.last", "s", G, "End of the last completed iteration, UNIX seconds.")
FINDING_ACTIVE = Metric("sofa.finding.active", "{finding}", G, "1 while a finding holds, else 0.")
ITERATION_DURATION = Metric("sofa.iteration.duration", "s", H, "Duration of the job's iterations.")
STRAGGLER_DELAY = Metric("sofa.straggler.delay", "s", C, "Time other ranks waited for this rank.")
SWARM_TIME = Metric("sofa.swarm.time", "s", C, "Time spent in a function swarm.")
SWARM_CALLS = Metric("sofa.swarm.calls", "{call}", C, "Calls (or samples) seen in a function swarm.")
SWARM_IO = Metric("sofa.swarm.io", "By", C, "Bytes moved by a function swarm.")
SWARM_INFO = Metric("sofa.swarm.info", "{swarm}", G, "Always 1; carries the caption of a swarm.")
SWARM_CORRELATION = Metric("sofa.swarm.resource.correlation.ratio", "1", G, "Strength of a swarm-resource association.")
SWARM_CORRELATION_LAG = Metric("sofa.swarm.resource.correlation.lag", "s", G, "Lag of the resource behind the swarm.")
COLLECTOR_CPU_TIME = Metric("sofa.collector.cpu.time", "s", C, "CPU time a collector used.")
COLLECTOR_DROPPED = Metric("sofa.collector.dropped", "{event}", C, "Events a collector lost.")
COLLECTOR_LATENCY = Metric("sofa.collector.latency", "s", G, "Delay between an event and its arrival at the operator.")
COLLECTOR_RATE = Metric("sofa.collector.rate", "{event}/s", G, "Events per second a collector delivers.")
PROCESSOR_EVENTS = Metric("sofa.processor.events", "{event}", C, "Events the operator took in.")
PROCESSOR_LATE = Metric("sofa.processor.late", "{event}", C, "Events that came after their watermark and were left out.")
PROCESSOR_CPU_TIME = Metric("sofa.processor.cpu.time", "s", C, "CPU time the operator used.")

OURS: Final[tuple[Metric, ...]] = (
    ITERATION_COUNT, ITERATION_TIME, ITERATION_PHASE_TIME, ITERATION_BOTTLENECK_TIME, ITERATION_LAST, FINDING_ACTIVE,
    ITERATION_DURATION, STRAGGLER_DELAY, SWARM_TIME, SWARM_CALLS, SWARM_IO, SWARM_INFO, SWARM_CORRELATION,
    SWARM_CORRELATION_LAG, COLLECTOR_CPU_TIME, COLLECTOR_DROPPED, COLLECTOR_LATENCY, COLLECTOR_RATE, PROCESSOR_EVENTS,
    PROCESSOR_LATE, PROCESSOR_CPU_TIME,
)  # fmt: skip

ITERATION_DURATION_BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip

# -- semantic conventions (v1.44) used as they are -----------------------------------------------------------------------------
PROCESS_CPU_TIME = Metric("process.cpu.time", "s", C, "CPU time of the process tree, by cpu.mode.")
PROCESS_MEMORY_USAGE = Metric("process.memory.usage", "By", G, "Resident memory of the process tree.")
PROCESS_DISK_IO = Metric("process.disk.io", "By", C, "Bytes the process tree read from or wrote to disks.")
PROCESS_THREAD_COUNT = Metric("process.thread.count", "{thread}", G, "Threads of the process tree.")
PROCESS_CONTEXT_SWITCHES = Metric("process.context_switches", "{context_switch}", C, "Context switches, by type.")
PROCESS_PAGING_FAULTS = Metric("process.paging.faults", "{fault}", C, "Page faults, by type.")
SYSTEM_CPU_TIME = Metric("system.cpu.time", "s", C, "CPU time of the host, by cpu.mode and cpu.logical_number.")
SYSTEM_MEMORY_USAGE = Metric("system.memory.usage", "By", G, "Memory of the host, by state.")
SYSTEM_DISK_IO = Metric("system.disk.io", "By", C, "Bytes moved by a block device.")
SYSTEM_DISK_OPERATIONS = Metric("system.disk.operations", "{operation}", C, "Operations of a block device.")
SYSTEM_DISK_IO_TIME = Metric("system.disk.io_time", "s", C, "Time a block device was busy.")
SYSTEM_DISK_OPERATION_TIME = Metric("system.disk.operation_time", "s", C, "Sum of the times each operation took.")
SYSTEM_NETWORK_IO = Metric("system.network.io", "By", C, "Bytes moved by an interface.")
SYSTEM_NETWORK_PACKETS = Metric("system.network.packet.count", "{packet}", C, "Packets moved by an interface.")
SYSTEM_NETWORK_DROPPED = Metric("system.network.packet.dropped", "{packet}", C, "Packets an interface dropped.")
SYSTEM_NETWORK_ERRORS = Metric("system.network.errors", "{error}", C, "Errors of an interface.")
GPU_UTILIZATION = Metric("hw.gpu.utilization", "1", G, "Fraction of time the GPU was busy, by hw.gpu.task.")
GPU_MEMORY_USAGE = Metric("hw.gpu.memory.usage", "By", G, "GPU memory in use.")
GPU_MEMORY_LIMIT = Metric("hw.gpu.memory.limit", "By", G, "GPU memory size.")
GPU_MEMORY_UTILIZATION = Metric("hw.gpu.memory.utilization", "1", G, "Fraction of GPU memory in use.")
GPU_IO = Metric("hw.gpu.io", "By", C, "Bytes moved over the GPU's PCIe link, by network.io.direction.")
HW_ERRORS = Metric("hw.errors", "{error}", C, "Hardware errors, by error.type.")
HW_POWER = Metric("hw.power", "W", G, "Power drawn.")
HW_ENERGY = Metric("hw.energy", "J", C, "Energy used.")
HW_TEMPERATURE = Metric("hw.temperature", "Cel", G, "Temperature.")

# -- no convention exists: under sofa. -----------------------------------------------------------------------------------------
CGROUP_CPU_TIME = Metric("sofa.cgroup.cpu.time", "s", C, "CPU time of the control group, by cpu.mode.")
CGROUP_CPU_THROTTLED = Metric("sofa.cgroup.cpu.throttled.time", "s", C, "Time tasks of the group were held back by its quota.")
CGROUP_CPU_PERIODS = Metric("sofa.cgroup.cpu.periods", "{period}", C, "Enforcement periods, by state (elapsed, throttled).")
CGROUP_CPU_LIMIT = Metric("sofa.cgroup.cpu.limit", "{cpu}", G, "CPUs granted: quota and cpuset together.")
CGROUP_MEMORY_USAGE = Metric("sofa.cgroup.memory.usage", "By", G, "Memory charged to the group.")
CGROUP_MEMORY_LIMIT = Metric("sofa.cgroup.memory.limit", "By", G, "Memory limit of the group.")
CGROUP_OOM_KILLS = Metric("sofa.cgroup.oom_kills", "{kill}", C, "Processes of the group killed for memory.")
PRESSURE_TIME = Metric("sofa.pressure.time", "s", C, "Pressure stall time, by sofa.pressure.resource and .kind (some, full).")
TCP_RETRANSMITS = Metric("sofa.tcp.retransmits", "{segment}", C, "TCP segments sent again.")
PROCESS_RUN_DELAY = Metric("sofa.process.run_delay", "s", C, "Time runnable threads of the process tree waited for a CPU.")
PROCESS_RUNNABLE = Metric("sofa.process.runnable", "{thread}", G, "Threads of the process tree that are running or runnable.")
GPU_THROTTLE = Metric("sofa.gpu.throttle.active", "{reason}", G, "1 while a clock throttle reason holds.")
GPU_CLOCK = Metric("sofa.gpu.clock.frequency", "Hz", G, "Clock of the streaming multiprocessors.")
TCP_SEGMENTS = Metric("sofa.tcp.segments", "{segment}", C, "TCP segments received and sent, by network.io.direction.")
HOST_LOAD = Metric("sofa.host.load", "{thread}", G, "Load average over one minute.")
HOST_THREADS = Metric("sofa.host.threads", "{thread}", G, "Threads of the host, by sofa.thread.state (runnable, blocked).")

ALL: Final[dict[str, Metric]] = {metric.name: metric for metric in list(globals().values()) if isinstance(metric, Metric)}
"""Every metric by its OpenTelemetry name."""
