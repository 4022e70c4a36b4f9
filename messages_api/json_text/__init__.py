"""JSON as bytes: positions and edits in it, and reading it without trust and at a bounded cost."""
