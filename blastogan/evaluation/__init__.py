"""Real and generated images compared by a model."""
