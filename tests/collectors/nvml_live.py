"""Run by test_nvml with LD_LIBRARY_PATH at the shim: two polls one second apart, points and warnings as JSON."""

import json
import sys

from collector_sink import KeepingSink, target

from sofa_otel.exporters.collect.nvml import NvmlCollector

collector, sink = NvmlCollector(), KeepingSink()
capability = collector.probe()
points = {}
if capability.usable:
    collector.start(target(1), sink)
    for now in (10**18, 10**18 + 10**9):
        collector.poll(now)
    points = {f"{name}{dict(attributes)}": value for (name, attributes), value in sink.last().items()}
    collector.stop()
    collector.stop()
json.dump(
    {"usable": capability.usable, "missing": capability.missing, "remedy": capability.remedy, "points": points}
    | {"warnings": sink.warnings, "dropped": collector.stats().dropped, "batches": len(sink.points)},
    sys.stdout,
)
