"""One file a scorer, with what some of them share."""
