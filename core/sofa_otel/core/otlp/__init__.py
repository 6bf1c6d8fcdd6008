"""OTLP bytes ↔ points and event columns, without SDK objects."""
