"""Python files that render a model's chats, run in a process of their own.

    encoding/encoding_dsv32.py    def encode_messages(messages, thinking_mode, …) -> str

`child` is the program of that process, `process` starts it, asks it and ends it, `file` is the encoder made of it, and
`turn_bounds` finds which message each piece of text was written for.
"""
