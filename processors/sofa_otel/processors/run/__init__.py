"""Engines that host the keyed operator."""
