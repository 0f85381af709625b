"""Tensors: hashing, sparse firings, batches ahead of time, free memory."""
