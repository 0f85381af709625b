"""Trying a labeling model on planted evidence: what it can do is known before money is spent."""
