"""Formats of other tools' labels, each in a file of its own that makes its `IMPORT`."""
