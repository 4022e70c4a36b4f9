"""The page of one provider key."""
