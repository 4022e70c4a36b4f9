"""What explains a difference: a module for each cause, with its rule. `explained.py` puts them together."""
