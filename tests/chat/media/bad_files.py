"""A folder of files that are good and bad, and a masker that reads it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
from PIL import Image

from policy_engine import Masker, MediaOptions, policy_from_text
from tests.support.pictures import draw, picture, png, processor

POLICY = policy_from_text("train assistant; train eos after assistant; never train user")


@functools.cache
def folder() -> Path:
    """A folder of files that are good and bad."""
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="policy-engine-media-"))
    inside = root / "in"
    draw(inside, "good.png")
    draw(root, "outside.png")
    (inside / "out.png").symlink_to(root / "outside.png")
    (inside / "folder").mkdir()
    (inside / "empty.png").write_bytes(b"")
    (inside / "text.png").write_text("no picture")
    whole = {kind: png(picture(200, 150), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")}
    frames = [picture(32, 32, seed) for seed in range(3)]
    for kind in ("webp", "avif"):
        frames[0].save(inside / f"moving.{kind}", save_all=True, append_images=frames[1:])
    (inside / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    (inside / "lines.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    for kind, data in whole.items():
        (inside / f"cut.{kind.lower()}").write_bytes(data[: len(data) * 2 // 3])
    flipped = bytearray(whole["PNG"])
    flipped[len(flipped) // 2] ^= 0xFF
    (inside / "flipped.png").write_bytes(bytes(flipped))
    Image.new("L", (1, 1)).save(inside / "pixel.png")
    Image.new("1", (20_000, 20_000)).save(inside / "huge.png")
    frames[0].save(inside / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (32, 32)).save(inside / "print.jpg")
    draw(inside, "thin.png", 3000, 4)
    (inside / "big.png").write_bytes(png(picture(900, 900)))
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(inside / "deep.png")
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(inside / "float.tiff")
    os.mkfifo(inside / "pipe.png")
    (inside / "loop.png").symlink_to("loop.png")
    return inside


@functools.cache
def masker() -> Masker:
    return Masker(POLICY, processor("qwen2_vl"), media=MediaOptions(root=folder(), max_bytes=1_000_000))
