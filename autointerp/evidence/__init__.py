"""Evidence: what each feature fired on, collected in one pass, stored and read."""
