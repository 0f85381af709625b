"""Limits on requests: rates, concurrency, retries, budgets and prices."""
