"""Chats that code renders instead of a Jinja template, such as Mistral's own encoder.

Mistral's encoder, on a question under a system prompt (`‹ ›` is one text that it encodes, the rest are control ids):

    <s>[INST]‹Be kind.\\n\\nHi›[/INST]‹Hello›</s>

An `Encoder` gives such chunks, each with the message that was being written. Who wrote which character is found by
tinting (`tint`, `align`): the encoder runs again on data whose characters are replaced one for one by private-use
characters. They are mapped back and believed only if the result is the plain text, character for character; else the
row is refused. `encoded_template` makes a chat template of an encoder, so that parts are told apart as they are in the
text of Jinja templates, and policies mean the same.
"""
