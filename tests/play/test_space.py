"""`examples/space` is a Hugging Face Space as it is."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from policy_engine.lang.library import shipped

SPACE = Path(__file__).parents[2] / "examples" / "space"


def test_the_header_is_one_of_a_space() -> None:
    header = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert "gradio" == header["sdk"]
    assert (SPACE / header["app_file"]).is_file()
    assert len(header["short_description"]) <= 60
    extra = re.search(r'play = \["gradio>=([\d.]+),<7"\]', (SPACE.parents[1] / "pyproject.toml").read_text())
    assert extra is not None
    assert header["sdk_version"].startswith(extra[1])
    assert "chat-policy-engine[play]" in (SPACE / "requirements.txt").read_text().splitlines()
    assert "default" in shipped()
