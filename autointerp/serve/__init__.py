"""`autointerp serve`: a run's pages and its JSON API, on this machine alone (extra `serve`)."""
