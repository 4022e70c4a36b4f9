"""A call: where it goes, what arrives, and what happens when one side disconnects."""
