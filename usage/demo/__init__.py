"""A plausible year of usage for demos, tests and benchmarks: `manage.py generate_usage` (docs/demo.md)."""
