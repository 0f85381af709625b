"""Token ids and activations, in batches of whole contexts."""
