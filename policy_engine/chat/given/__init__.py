"""Token ids that are given: their places in the text, and where they spell another text.

Three rows of one text, `Hello<|im_end|>`, by the tokens of each:

    Hello <|im_end|>              the tokenizer's own
    H ell o <|im_end|>            sampled: other tokens, the same characters, so the same decisions
    Hallo <|im_end|>              drift: token 0 spells something else

`spell` compares bytes, `drift` finds where both agree again, `place` puts ids on a rendered chat, and `turns` makes a
chat of ids whose authors are known, without a template.
"""
