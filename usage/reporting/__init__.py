"""Usage reports: what is asked, and the tables that answer it. docs/usage-reports.md describes them.

`asked` reads a URL. `tables` answers it for pages and exports, from roll-ups only (usage/questions.py).
"""
