"""Importers: other programs' recordings as event batches."""
