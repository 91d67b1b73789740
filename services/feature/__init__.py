"""Knows people and items, and takes every event."""
