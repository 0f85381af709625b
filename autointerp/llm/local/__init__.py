"""A language model in this process, with the interface of an endpoint."""
