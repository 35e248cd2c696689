"""Writes the pages of `docs/models`, one a model family: `python -m scripts.models`.

`families` names the templates, `rendering` renders one conversation with them, `facts` and `traps` look at what came
out, `trained` asks the shipped policies, and `page` writes it down. Nothing on a page is written by hand.
"""
