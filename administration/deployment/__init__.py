"""Makes a deployment what a file says: customers, teams, virtual keys, budgets, limits, provider keys and aliases."""
