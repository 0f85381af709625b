"""From evidence to a label."""
