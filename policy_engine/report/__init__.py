"""Views of a masked chat: terminal and HTML."""
