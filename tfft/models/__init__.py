"""Checkpoints in, Keras models out."""
