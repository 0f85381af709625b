"""What scorers share that follow another tool: its windows, its replies, its numbers.

docs/protocols.md says of each what is as it is there and what is not.
"""
