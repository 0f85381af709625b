"""What the settings name, opened: language models, activations, estimates of cost."""
