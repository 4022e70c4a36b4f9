"""Keys, their names and credentials, provider keys, and what a process knows of them."""
