"""The stages of a run, one module each: capture, collect, label, score."""
