"""Experiments of scorers with the subject model, each in a file of its own."""
