"""Message batches, files and models."""
