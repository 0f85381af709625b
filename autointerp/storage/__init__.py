"""Files that are whole or not there: Parquet, tensors, and what to say of damage."""
