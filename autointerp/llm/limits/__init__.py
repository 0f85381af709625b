"""What slows requests down or stops them: rates, concurrency, retries, budgets, prices."""
