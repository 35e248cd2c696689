"""Videos that cannot be used, and errors of a processor that name the files of the row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policy_engine import Masker, MediaError, MediaOptions, policy_from_text
from policy_engine.chat.media.sounds import open_video
from tests.support.pictures import draw, picture, processor


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ([], "the video of it has no frames"),
        ([picture(), picture(30, 90)], "frame 1 of the video of it has 30 × 90 pixels, and the first frame 64 × 48"),
        ([picture(), None], "it frame 1 is null, which is not a medium"),
        (["good.png", "none.png"], "`none.png` of it frame 1 does not exist"),
        (["../good.png"], "`../good.png` of it frame 0 leads out of the media root"),
        (np.zeros((4, 48), dtype=np.uint8), "is an array of 4 × 48 numbers, not of frames"),
        (np.zeros((0, 48, 64, 3), dtype=np.uint8), "is an array of 0 × 48 × 64 × 3 numbers, not of frames"),
        ("none.mp4", "`none.mp4` of it does not exist"),
        ("folder", "`folder` of it is a folder"),
        ("out.mp4", "`out.mp4` of it leads out of the media root"),
        ("https://example.org/a.mp4", "is neither a file below the media root nor a list of frames"),
        ({"bytes": b"abc"}, "is neither a file below the media root nor a list of frames"),
        (7, "is neither a file below the media root nor a list of frames"),
    ],
)
def test_a_bad_video_is_an_error_that_names_it(source: Any, expected: str, tmp_path: Any) -> None:
    inside = tmp_path / "in"
    draw(inside, "good.png")
    (inside / "folder").mkdir()
    (inside / "out.mp4").symlink_to(draw(tmp_path, "outside.png"))
    with pytest.raises(MediaError, match=expected):
        open_video(source, MediaOptions(root=inside), "it")


def test_what_a_processor_refuses_is_named_by_its_files(tmp_path: Any) -> None:
    draw(tmp_path, "thin.png", 3000, 4)
    made = Masker(policy_from_text("train assistant"), processor("qwen2_vl"), media=MediaOptions(root=tmp_path))
    assert made.tokenizer._media_encoder is not None
    made.tokenizer._media_encoder.texts.measures = False
    parts = [{"type": "image", "image": source} for source in (picture(), "thin.png", picture(), picture(), picture())]
    with pytest.raises(MediaError) as caught:
        made([{"role": "user", "content": parts}, {"role": "assistant", "content": "Yes."}])
    assert (
        "Qwen2VLProcessor refuses the media of the row (messages[0].content[0], `thin.png` of messages[0].content[1], "
        "messages[0].content[2], messages[0].content[3] and 1 more): "
    ) in caught.value.message
