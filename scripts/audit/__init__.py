"""Experiments of `audit_scores.py`, a module each."""
