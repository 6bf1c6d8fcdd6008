"""Emitters: points and records out of the process. Each is one file; none knows where the points come from."""
