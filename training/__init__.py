"""Offline: data, models, training, export, evaluation, registration. Knows `winnow`, never the services."""
