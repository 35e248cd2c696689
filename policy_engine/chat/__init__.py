"""Conversations, templates and tokens. The only floor that imports jinja2, tokenizers and transformers."""
