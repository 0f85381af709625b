"""The rule learner, which labels features and judges its own labels."""
