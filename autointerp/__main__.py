"""`python -m autointerp`."""

from autointerp.cli import main

main()
