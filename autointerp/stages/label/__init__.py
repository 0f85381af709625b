"""The label stage: by rules or by a language model, and choosing between candidates."""
