"""Pictures and sounds that tests draw, and processors built of parts that are installed: no hub, no files of others."""

from __future__ import annotations

import copy
import functools
import importlib.util
import io
import warnings
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

if importlib.util.find_spec("torchvision") is not None:
    from tests.support import cpu_torchvision  # noqa: F401

from transformers import ProcessorMixin

from tests.support.tokenizers import load, trl_template

VISION = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
AUDIO = ("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """A picture of noise."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def png(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file of an image."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def draw(folder: Path, name: str, width: int = 64, height: int = 48, seed: int = 0) -> Path:
    """A picture as a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(width, height, seed).save(path)
    return path


def tone(seconds: float = 0.5, rate: int = 16_000, pitch: float = 440.0) -> np.ndarray:
    """A sound of one pitch."""
    return np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """The bytes of a WAV file."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return stream.getvalue()


@contextmanager
def _any_part() -> Iterator[None]:
    """Lets a processor be built without its video half, whose class needs torch to be looked up at all."""
    check = ProcessorMixin.check_argument_for_proper_class
    ProcessorMixin.check_argument_for_proper_class = lambda self, name, value: type(value)  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ProcessorMixin.check_argument_for_proper_class = check  # type: ignore[method-assign]


def _tokenizer(name: str, template: str | None, *tokens: str, **named: str) -> Any:
    tok = copy.deepcopy(load(name))
    tok.add_special_tokens({"additional_special_tokens": [t for t in tokens if t not in tok.get_vocab()]})
    if tok.pad_token is None:
        tok.pad_token = tok.eos_token
    for key, token in named.items():
        setattr(tok, key, token)
        setattr(tok, f"{key}_id", tok.convert_tokens_to_ids(token))
    tok.chat_template = template
    return tok


def _pil(name: str, module: str | None = None, **options: Any) -> Any:
    """An image processor in its PIL form, which needs no torch."""
    import importlib

    folder = module or name
    found = importlib.import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
    cls = next(v for k, v in vars(found).items() if k.endswith("ImageProcessorPil") and v.__module__ == found.__name__)
    return cls(**options)


def _grid(rows: int = 6) -> list[str]:
    return [f"<row_{i}_col_{j}>" for i in range(1, rows + 1) for j in range(1, rows + 1)]


_PLAIN = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]{% endif %}"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}PLACEHOLDER{% elif c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}{% endif %}"
    "{% if m.role == 'user' %}[/INST]{% else %}{{ eos_token }}{% endif %}{% endfor %}"
)
"""A template of one kind for processors whose own no package ships; PLACEHOLDER is theirs."""


def plain(placeholder: str) -> str:
    """`_PLAIN` with a placeholder."""
    return _PLAIN.replace("PLACEHOLDER", placeholder)


def _qwen2_vl() -> Any:
    from transformers import Qwen2VLProcessor

    template = trl_template("qwen2_5_vl")
    return Qwen2VLProcessor(_pil("qwen2_vl"), _tokenizer("qwen", template, *VISION), None, chat_template=template)


def _qwen2_vl_video() -> Any:
    from transformers import Qwen2VLProcessor, Qwen2VLVideoProcessor

    template = trl_template("qwen2_5_vl")
    tok = _tokenizer("qwen", template, *VISION)
    return Qwen2VLProcessor(_pil("qwen2_vl"), tok, Qwen2VLVideoProcessor(), chat_template=template)


def _qwen2_5_vl() -> Any:
    from transformers import Qwen2_5_VLProcessor

    template = trl_template("qwen2_5_vl")
    return Qwen2_5_VLProcessor(_pil("qwen2_vl"), _tokenizer("qwen", template, *VISION), None, chat_template=template)


def _qwen3_vl() -> Any:
    from transformers import Qwen3VLProcessor

    template = trl_template("qwen3_vl")
    return Qwen3VLProcessor(_pil("qwen2_vl"), _tokenizer("qwen", template, *VISION), None, chat_template=template)


def _llava() -> Any:
    from transformers import LlavaProcessor

    template = trl_template("llava_next")
    size = {"height": 56, "width": 56}
    images = _pil("clip", size={"shortest_edge": 56}, crop_size=size)
    tok = _tokenizer("mistral-v3", template, "<image>")
    return LlavaProcessor(images, tok, patch_size=14, vision_feature_select_strategy="default",
                          chat_template=template, num_additional_image_tokens=1)  # fmt: skip


def _llava_next() -> Any:
    from transformers import LlavaNextProcessor

    template = trl_template("llava_next")
    size = {"height": 56, "width": 56}
    images = _pil("llava_next", size={"shortest_edge": 56}, crop_size=size,
                  image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]])  # fmt: skip
    tok = _tokenizer("mistral-v3", template, "<image>")
    return LlavaNextProcessor(images, tok, patch_size=14, vision_feature_select_strategy="default",
                              chat_template=template, num_additional_image_tokens=1)  # fmt: skip


def _idefics3() -> Any:
    from transformers import Idefics3Processor

    template = trl_template("idefics3")
    marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tok = _tokenizer("mistral-v3", template, *marks, *_grid())
    images = _pil("idefics3", size={"longest_edge": 4 * 28}, max_image_size={"longest_edge": 28})
    return Idefics3Processor(images, tok, image_seq_len=4, chat_template=template)


def _smolvlm() -> Any:
    from transformers import SmolVLMProcessor

    template = trl_template("smolvlm")
    marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tok = _tokenizer("qwen", template, *marks, *_grid())
    images = _pil("smolvlm", size={"longest_edge": 4 * 28}, max_image_size={"longest_edge": 28})
    from transformers import SmolVLMVideoProcessor

    return SmolVLMProcessor(images, tok, SmolVLMVideoProcessor(), image_seq_len=4, chat_template=template)


def _gemma3() -> Any:
    from transformers import Gemma3Processor

    template = trl_template("gemma3")
    marks = ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>")
    tok = _tokenizer("metaspace-gemma", template, *marks, boi_token="<start_of_image>", eoi_token="<end_of_image>",
                     image_token="<image_soft_token>")  # fmt: skip
    tok.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"})
    images = _pil("gemma3", size={"height": 28, "width": 28})
    return Gemma3Processor(images, tok, chat_template=template, image_seq_length=9)


def _pixtral() -> Any:
    from transformers import PixtralProcessor

    template = plain("[IMG]")
    tok = _tokenizer("tekken", template, "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
    return PixtralProcessor(_pil("pixtral", size={"longest_edge": 128}), tok, patch_size=16, chat_template=template)


def _aya_vision() -> Any:
    from transformers import AyaVisionProcessor

    template = plain("<image>")
    marks = ("<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL", "TILE",
             "<|IMG_PATCH|>", "[INST]", "[/INST]")  # fmt: skip
    tok = _tokenizer("qwen", template, *marks)
    tok.bos_token = "<|im_start|>"
    images = _pil("got_ocr2", size={"height": 28, "width": 28}, crop_to_patches=True, max_patches=4)
    return AyaVisionProcessor(images, tok, patch_size=14, img_size=28, downsample_factor=1, chat_template=template)


def _llava_onevision() -> Any:
    from transformers import LlavaOnevisionProcessor

    template = trl_template("qwen2_5_vl").replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>")
    images = _pil("llava_onevision", size={"height": 56, "width": 56},
                  image_grid_pinpoints=[[56, 112], [112, 56], [112, 112]])  # fmt: skip
    tok = _tokenizer("qwen", template, "<image>", "<video>")
    return LlavaOnevisionProcessor(images, tok, None, num_image_tokens=16, vision_feature_select_strategy="full",
                                   chat_template=template, patch_size=14)  # fmt: skip


def _paligemma() -> Any:
    from transformers import PaliGemmaProcessor

    tok = _tokenizer("metaspace-gemma", None, "<image>")
    tok.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"})
    images = _pil("siglip", size={"height": 28, "width": 28})
    images.image_seq_length = 4
    return PaliGemmaProcessor(images, tok, chat_template=plain("<image>"))


def _qwen2_audio() -> Any:
    from transformers import Qwen2AudioProcessor, WhisperFeatureExtractor

    tok = _tokenizer("qwen", None, *AUDIO)  # its template comes with its class
    return Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=128, chunk_length=2), tok)


def _audio_flamingo3() -> Any:
    from transformers import AudioFlamingo3Processor, WhisperFeatureExtractor

    template = plain("<sound>").replace("c.type == 'image'", "c.type == 'audio'")
    tok = _tokenizer("qwen", template, "<sound>", "[INST]", "[/INST]")
    tok.bos_token = "<|im_start|>"
    return AudioFlamingo3Processor(WhisperFeatureExtractor(feature_size=128, chunk_length=2), tok, template)


_BUILT: dict[str, Callable[[], Any]] = {
    "qwen2_vl": _qwen2_vl, "qwen2_5_vl": _qwen2_5_vl, "qwen3_vl": _qwen3_vl, "llava": _llava,
    "llava_next": _llava_next, "llava_onevision": _llava_onevision, "idefics3": _idefics3, "smolvlm": _smolvlm,
    "gemma3": _gemma3, "pixtral": _pixtral, "aya_vision": _aya_vision, "paligemma": _paligemma,
    "qwen2_vl_video": _qwen2_vl_video, "qwen2_audio": _qwen2_audio, "audio_flamingo3": _audio_flamingo3,
}  # fmt: skip
PROCESSORS = tuple(_BUILT)
"""Names for `processor`."""
WITHOUT_TORCH = (
    "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next", "llava_onevision", "idefics3", "gemma3", "aya_vision",
    "qwen2_audio",
)  # fmt: skip
"""Those that need neither torch nor another library, and whose chats can be masked."""


@functools.cache
def processor(name: str) -> Any:
    """A processor of a family, small enough that a picture of 64 × 48 makes few tokens."""
    with _any_part():
        return _BUILT[name]()
