"""Predicts what a person would do with each candidate."""
