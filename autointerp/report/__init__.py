"""Reports on a run: in the terminal, in figures, on a page."""
