"""Numbers of scores and their intervals: numpy and scipy only."""
