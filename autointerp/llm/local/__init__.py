"""A language model in this process, which answers as an endpoint would."""
