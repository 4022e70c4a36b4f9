"""Each protocol, and providers that misbehave."""
