"""Starts things: one file a command, and the wiring between the rooms."""
