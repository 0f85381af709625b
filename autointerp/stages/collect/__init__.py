"""The collect stage: one pass over the activations, in one process or several."""
