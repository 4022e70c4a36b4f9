"""The administration: pages and REST for admins, finance and members, on Django's admin."""
