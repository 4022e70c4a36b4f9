"""What a request means, and what is wrong with it."""
