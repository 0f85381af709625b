"""Files written atomically (Parquet, JSON, tensors), and messages about damaged ones."""
