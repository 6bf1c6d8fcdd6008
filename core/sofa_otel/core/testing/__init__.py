"""Inputs with a known answer, for tests and benchmarks of every room. Nothing that runs in production imports this."""
