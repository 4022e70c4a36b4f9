"""The pages of calls: the list with its filters, its export, and the page of one call."""
