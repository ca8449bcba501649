"""Parts of the training step that are no Lightning modules."""
