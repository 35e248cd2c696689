"""A conversation that shows what a proof found.

`train assistant; never train assistant.text` fails on

    [{"role": "assistant", "content": "4."}]

`plans` says which turns there are and what each must contain, `make_turn`, `make_text` and `find_values` make the data,
`lay_out` puts it together as a rendered chat, and `witness` replays that through the engine before anything is
reported.
"""
