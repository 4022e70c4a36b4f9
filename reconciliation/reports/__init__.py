"""The reports of providers: each module asks one kind, and gives its rows in the same form."""
