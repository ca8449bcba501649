"""Parts of the training step."""
