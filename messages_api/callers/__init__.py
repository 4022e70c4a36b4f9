"""Who calls, with which credential, how often, and what budgets and limits say to them."""
