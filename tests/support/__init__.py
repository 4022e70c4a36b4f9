"""What tests use: the gateway, fake providers, databases, a small cast. No tests."""
