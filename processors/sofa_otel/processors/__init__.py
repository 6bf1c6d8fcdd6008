"""Turns batches into records: ``align → iterate → group → attribute → correlate → emit``."""
