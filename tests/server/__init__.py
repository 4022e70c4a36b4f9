"""What comes before a call: heads, bodies under way, paths, credentials, headers, and which pages may call."""
