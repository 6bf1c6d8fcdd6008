"""Reads the world (``collect``, ``read``, ``probe``) and writes telemetry (``emit``, ``otel``)."""
