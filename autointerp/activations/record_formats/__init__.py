"""Formats of activation records, each in a file of its own that makes its `RECORD_FORMAT`."""
