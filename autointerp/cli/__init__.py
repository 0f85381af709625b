"""The command line: commands by what a user does with them."""
