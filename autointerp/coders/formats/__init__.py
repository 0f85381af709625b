"""Formats of SAE files, each in a file of its own that makes its `CODER_FORMAT`."""
