"""Sources of events and resource points on a live system. Loaded by name through :mod:`sofa_otel.exporters.registry`."""
