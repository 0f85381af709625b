"""What each feature fired on: collected in one pass, kept, read again."""
