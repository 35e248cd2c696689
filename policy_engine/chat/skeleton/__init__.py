"""The run of a template on rows of one shape, recorded once and replayed.

A template looks at data only through operations: `'</think>' in content`, `content.strip()`. Run on a probe in place
of each text, it shows them all:

    {% for m in messages %}<{{ m.role }}>{{ m.content|trim if m.content else '-' }}{% endfor %}

    test   bool(messages[0].content)              True
    step   v = trim(messages[0].content)
    text   "<user>" v

A row of the same shape that gives the same answer to each test takes the same way through the template, so its text is
the same literals, and the steps done on its own fields. Steps are done by the very functions that a rendering calls,
on traced text, so characters keep their owners; several cuts of one field are done at once.

`shape` is what has to be equal before the first test. `tape` collects steps and tests, `probe` has the values that a
recorded template works with, `recording_environment` and `recorded_filters` the operations on them. `record` runs a
template on them. `tree` keeps what was recorded and replays it (`cuts` joins steps), up to a `leaf` with the text;
`skeletons` decides when to record, and compares replays with renderings.

An operation that is not known here ends the recording, and rows of that shape are rendered as ever.
"""
