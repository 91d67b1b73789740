"""Finds the few hundred items worth ranking."""
