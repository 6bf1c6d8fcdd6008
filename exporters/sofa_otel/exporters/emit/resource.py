"""Who we are, as OTLP resource attributes: the job's identity, under what the user says in ``OTEL_*``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import unquote

from sofa_otel.core import names
from sofa_otel.core.telemetry import Resource, Value


def job_resource(
    job: str,
    rank: int,
    *,
    world_size: int = 1,
    local_rank: int | None = None,
    host: str = "",
    instance: str = "",
    environ: Mapping[str, str] = os.environ,
    **extra: str,
) -> Resource:
    """Resource of one agent.

    ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` win over ``service.*`` and ``host.name``; never over ``sofa.*``, which
    are facts.

    Args:
        job, rank, world_size, local_rank, host: From the job's identity.
        instance: ``service.instance.id``; ``<job>-r<rank>`` by default.
        environ: Variables to read.
        extra: More attributes, with ``__`` for the dot.
    """
    attributes: dict[str, Value] = {
        names.SERVICE_NAME: job,
        names.SERVICE_INSTANCE_ID: instance or f"{job}-r{rank}",
        **({names.HOST_NAME: host} if host else {}),
        **{key.replace("__", "."): value for key, value in extra.items()},
    }
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = pair.partition("=")
        if equals and key.strip():
            attributes[key.strip()] = unquote(value.strip())
    if environ.get("OTEL_SERVICE_NAME", "").strip():
        attributes[names.SERVICE_NAME] = environ["OTEL_SERVICE_NAME"].strip()
    attributes |= {names.JOB_ID: job, names.RANK: rank, names.WORLD_SIZE: world_size}
    if local_rank is not None:
        attributes[names.LOCAL_RANK] = local_rank
    return Resource(tuple(sorted(attributes.items())))
