"""A call from its plan to its settlement: `story.py` has the order."""
