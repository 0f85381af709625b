"""What a run came to: in the terminal, in figures, on a page."""
