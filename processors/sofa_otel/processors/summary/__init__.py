"""Turns finished (or still growing) run directories into the report document."""
