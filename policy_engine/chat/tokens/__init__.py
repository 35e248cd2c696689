"""Token ids, and the characters that each of them covers.

With the built-in tokenizer, `Yes, naïve 🙂<|im_end|>` has six tokens; two of them share a character:

    id    token       characters
    965   Yes         0 to 3
    11    ,           3 to 4
    2573  " naïve"    4 to 10
    1738  " " and the first bytes of 🙂   10 to 12
    224   its last byte                    11 to 12
    4089  <|im_end|>  12 to 22

`pipeline` reads what a tokenizer does to text, `byte_lengths` and `offsets` locate its tokens in two ways, `locator`
takes the one that is exact, `load` and `cache` get tokenizers, `stops` the tokens at which their models stop.
"""
