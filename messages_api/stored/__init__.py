"""What lives at a provider: message batches, files, and lists of models."""
