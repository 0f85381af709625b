"""Templates: found, checked, rendered within limits."""
