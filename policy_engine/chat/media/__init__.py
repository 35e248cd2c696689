"""Processors: the ids of conversations with images, sounds and videos.

A template writes one placeholder for a medium, and a processor puts as many tokens in its place as its model takes:

```
template:   <|vision_start|><|image_pad|><|vision_end|>What is it?
processor:  <|vision_start|><|image_pad|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>What is it?
            └──────────────────────────── media.image ────────────────────────────┘└── text ──┘
```

`in_messages` finds the media of messages, `open_media` opens or measures them, `processor` asks a processor what it
writes for them, and `stretch` makes the segments of a rendered chat as long as that.
"""
