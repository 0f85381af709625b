"""A package that adds one of each kind to autointerp."""
