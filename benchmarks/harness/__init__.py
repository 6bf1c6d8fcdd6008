"""Shared by benchmarks and end-to-end tests: jobs, trainers, live runs under ``sofa run``, comparison with the truth."""
