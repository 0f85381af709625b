"""Many calls to a language model, safely: nothing here knows of features."""
