"""Anthropic's Usage and Cost Analytics API for our virtual keys, for programs that can read Anthropic's."""
