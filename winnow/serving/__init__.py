"""Starts things: servers, channels, health, signals, telemetry, errors to statuses and back. No business rule."""
