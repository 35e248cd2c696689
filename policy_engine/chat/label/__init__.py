"""One rendering's text in segments: the part that each is, and the message that owns it.

Qwen3's template on a question, a call, its result and an answer:

<!-- rendering -->
```text
text (⏎ is a line break)           part                 owner
<|im_start|>user⏎                  header               0 user
Rain in Rome?                      text                 0 user
<|im_end|>                         eot                  0 user
⏎                                  separator            0 user
<|im_start|>assistant⏎             header               1 assistant
<think>⏎                           reasoning.open       1 assistant
I have to look.                    reasoning.text       1 assistant
⏎</think>⏎⏎                        reasoning.close      1 assistant
<tool_call>⏎{"name": "             tool_call            1 assistant
weather                            tool_call.name       1 assistant
", "arguments":                    tool_call            1 assistant
{"city": "Rome"}                   tool_call.arguments  1 assistant
}⏎</tool_call>                     tool_call            1 assistant
<|im_end|>                         eot                  1 assistant
⏎                                  separator            1 assistant
<|im_start|>user⏎<tool_response>⏎  header               2 tool
dry                                text                 2 tool
⏎</tool_response>                  markup               2 tool
<|im_end|>                         eot                  2 tool
⏎                                  separator            2 tool
<|im_start|>assistant⏎             header               3 assistant
<think>⏎                           reasoning.open       3 assistant
Dry.                               reasoning.text       3 assistant
⏎</think>⏎⏎                        reasoning.close      3 assistant
No.                                text                 3 assistant
<|im_end|>                         eot                  3 assistant
⏎                                  separator            3 assistant
```
<!-- end of rendering -->

`sources` flattens what the template wrote to runs with one source each. `profile` knows the template (its generation
prompt, its end marker), which `learn` finds. `parts` tells the parts, with `openings` for what is before a turn's data
and `closings` for what is behind it, all on one `board`. `layout` keeps the result for rows of the same shape,
`dropped` finds what was not written (`lost_plan` in replayed rows), and `markers` recognises special tokens.
`python scripts/label_picture.py` draws the picture.
"""
