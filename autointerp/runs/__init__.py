"""A run: its directory, its record, its features, and what is open while it is worked on."""
