"""The score stage: judges, and the experiment with the subject model."""
