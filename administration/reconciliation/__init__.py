"""The pages of the reconciliation: providers' figures beside ours, by month, provider key, day and hour."""
