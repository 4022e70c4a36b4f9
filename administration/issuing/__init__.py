"""The pages that issue virtual keys: one, or many at once."""
