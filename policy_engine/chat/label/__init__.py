"""One rendering's text in segments: the part that each is, and the message that owns it."""
