"""Finds the iterations of a training job in any stream of events, without marks, on-line."""
