"""Chat templates with `{% generation %}` tags that say what a policy trains.

    {{ '<|im_start|>' + m.role + '⏎' + m.content + '<|im_end|>⏎' }}

writes answers and questions alike, so its content is written under a condition:

    {{ '<|im_start|>' + m.role + '⏎' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}…

`items` reads the source, `blocks` its blocks, and `sums` prints in place what was assigned; `watch` renders
conversations of many `tried_shapes` and notes what is trained of each piece; `plan` finds the regions, `find_condition`
where they count, `write` writes the tags, and `compare_tagged` compares the result in transformers. Tags say trained or
masked, of text that the template writes outside of macros.
"""

from policy_engine.tagging.tag import Tagged as Tagged
from policy_engine.tagging.tag import tag_template as tag_template
from policy_engine.tagging.untaggable import UntaggableError as UntaggableError
