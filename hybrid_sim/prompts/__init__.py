"""Prompts: templates, schemas of replies, and how replies are validated."""
