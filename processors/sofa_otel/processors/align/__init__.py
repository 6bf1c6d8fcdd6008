"""Puts events of many sources into one order that does not depend on how they arrived."""
