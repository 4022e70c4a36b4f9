"""What an answer reports, and what a call used by it. Pure."""
