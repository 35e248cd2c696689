"""Token ids, and the characters that each of them covers."""
