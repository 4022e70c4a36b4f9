"""Reports in Anthropic's shape for virtual keys."""
