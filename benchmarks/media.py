"""Processors: ids beside their own call, and time beside it.

    python -m benchmarks.media parity --count 500 qwen2_vl llava      ids, columns, labels; one line a processor
    python -m benchmarks.media speed --count 60 qwen2_vl llava+       our time over the processor's own; + for full size
    python -m benchmarks.media cuts qwen2_vl llava                    200 cuts and 50 packs: tokens beside features

`benchmarks.media_classes` has the table of all classes. `parity` and `cuts` want the environment of `make media`, for
the processors that need torch.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from policy_engine import Masker, MediaCollator, MediaError, MediaOptions, policy_from_text
from policy_engine.core.vocabulary import MEDIA
from policy_engine.run.pack import pack
from policy_engine.run.truncate import KEEPS, Truncation, truncate

ROOT = Path(__file__).parents[1]
_ROUNDS = 5
"""Times that `speed` takes each row; the fastest of them counts."""
POLICY = "train assistant; train eos after assistant; never train user; never train media"


def parity(names: list[str], count: int, seed: int) -> int:
    """Rows compared with the processor's own call.

    Every tenth conversation quotes a placeholder, which the processor refuses too; every fifth has no media.
    """
    from tests.support.media_chats import beside, media_chat
    from tests.support.pictures import processor

    failed = 0
    for name in names:
        masker = Masker(policy_from_text(POLICY), processor(name))
        assert masker.tokenizer.media is not None
        tokens = list(masker.tokenizer.media.tokens.values())
        most = 1 if name == "audio_flamingo3" else 4
        found: Counter[str] = Counter()
        for at in range(count):
            rng = random.Random(f"{seed}-{name}-{at}")
            quoted = rng.choice(tokens) if at % 10 == 9 else None
            video = name.endswith("video") and at % 2 == 0
            messages = media_chat(rng, audio="audio" in name, video=video, most=most, quoted=quoted)
            try:
                if quoted is not None:
                    masker(messages)
                    found["quoted, not refused"] += 1
                    continue
                row = beside(masker, messages)
            except MediaError as error:
                found["refused: quoted" if quoted is not None else f"refused: {error.message}"] += 1
                continue
            except AssertionError as error:
                found[f"differs: {str(error)[:200]}"] += 1
                continue
            found["equal"] += 1
            parts = Counter(row.chat.segments[s].part for s in row.mask.segments_T[row.mask.weights_T != 0].tolist())
            found["media tokens"] += sum(m["count"] for m in row["media"])
            found["media tokens trained"] += sum(parts[part] for part in MEDIA)
            found["user tokens trained"] += sum(
                row.chat.role(row.chat.segments[s]) != "assistant"
                for s in row.mask.segments_T[row.mask.weights_T != 0].tolist()
            )
            bare = [{**m, "content": [p for p in m["content"] if p["type"] == "text"]} for m in messages]
            found["labels as without media"] += _trained(row) == _trained(masker(bare))
        bad = count - found["equal"] - found["refused: quoted"]
        bad += found["media tokens trained"] + found["user tokens trained"]
        bad += found["equal"] - found["labels as without media"]
        failed += bool(bad)
        print(
            json.dumps({"processor": name, "ok": not bad, **dict(sorted(found.items()))}, ensure_ascii=False),
            flush=True,
        )
    return failed


def _trained(row: Any) -> list[int]:
    return [label for label in row.labels if label != -100]


def speed(names: list[str], count: int, size: tuple[int, int]) -> int:
    """Rows with pictures of about `size`, or sounds: masked, and by the processor's call.

    They are measured, where that is possible, then decoded: pictures by the processor, sounds of another rate for
    their number of samples. `called` are sounds that go through the processor's own call, as one row in 64 does.
    `ratio` is that of the sums of each row's fastest time.
    """
    from tests.support.pictures import processor

    with TemporaryDirectory() as folder:
        for name in names:
            their = _in_full(name) if name.endswith("+") else processor(name)
            made = Masker(policy_from_text(POLICY), their, media=MediaOptions(root=folder))
            encoder = made.tokenizer._media_encoder
            assert encoder is not None
            kind = "image" if "image" in encoder.media.tokens else "audio"
            measures = encoder.texts.measured([kind]) is not None
            for way in ("measured", "decoded", "called") if kind == "audio" else ("measured", "decoded"):
                if way == ("called" if kind == "audio" else "decoded"):
                    encoder.texts.measures = False
                elif not measures:
                    continue
                rate = 44_100 if way == "decoded" else encoder.media.rate
                rows = [_of_files(Path(folder), kind, at, size, rate) for at in range(count)]
                print(
                    json.dumps({"processor": name, "way": way, **_timed(made, their, rows, Path(folder))}), flush=True
                )
    return 0


def _of_files(folder: Path, kind: str, at: int, size: tuple[int, int], rate: int) -> list[dict[str, Any]]:
    """A conversation with a file, whose path is below the folder; `rate` is that of a sound."""
    from tests.support.media_chats import words
    from tests.support.pictures import draw, tone, wav

    rng = random.Random(at)
    name = f"{at}.wav" if kind == "audio" else f"{at}.jpg"
    if kind == "audio":
        (folder / name).write_bytes(wav(tone(rng.uniform(1.0, 2.0), rate), rate))
    else:
        draw(folder, name, size[0] + rng.randrange(200), size[1] + rng.randrange(200), seed=at)
    text = {"type": "text", "text": " ".join(words(rng) for _ in range(40))}
    return [{"role": "user", "content": [{"type": kind, "path": name}, text]}, {"role": "assistant", "content": [text]}]


def _timed(made: Masker, their: Any, rows: list[Any], folder: Path) -> dict[str, Any]:
    """CPU time of the masked rows over that of the processor's own call."""
    absolute = copy.deepcopy(rows)
    for messages in absolute:
        part = messages[0]["content"][0]
        part["path"] = str(folder / part["path"])
    encoder = made.tokenizer._media_encoder
    assert encoder is not None
    # The first rows are compared with the processor's own call.
    for messages in rows[:4]:
        made(messages)
    their.apply_chat_template(absolute[0], tokenize=True, return_dict=True)
    # Row by row and in both orders: a machine's speed drifts, and two neighbours see the same of it.
    times: dict[str, list[list[float]]] = {"ours": [[] for _ in rows], "theirs": [[] for _ in rows]}
    for turn in range(_ROUNDS):
        known = encoder.texts.measured(["image"])
        if known is not None and known.pictures is not None:
            known.pictures.forget()
        for at, (messages, given) in enumerate(zip(rows, absolute)):
            for which in ("ours", "theirs") if (turn + at) % 2 else ("theirs", "ours"):
                start = time.process_time()
                if which == "ours":
                    made(messages)
                else:
                    their.apply_chat_template(given, tokenize=True, return_dict=True)
                times[which][at].append(time.process_time() - start)
    sums = {which: sum(map(min, of_rows)) for which, of_rows in times.items()}
    rounds = [
        sum(row[turn] for row in times["ours"]) / sum(row[turn] for row in times["theirs"]) for turn in range(_ROUNDS)
    ]
    return {
        "ratio": round(sums["ours"] / sums["theirs"], 3),
        "rounds": [round(ratio, 3) for ratio in sorted(rounds)],
        "ours, ms a row": round(1000 * sums["ours"] / len(rows), 2),
    }


def _in_full(name: str) -> Any:
    """A processor with pictures, or a window of sound, of the size of its class.

    Those of tests are small.
    """
    from tests.support.pictures import processor

    made = copy.copy(processor(name.removesuffix("+")))
    if hasattr(made, "feature_extractor"):
        made.feature_extractor = type(made.feature_extractor)(feature_size=128)
        return made
    made.image_processor = type(made.image_processor)()
    # 384 × 384 pixels in patches of 14.
    if hasattr(made, "num_image_tokens"):
        made.num_image_tokens = 27 * 27
    return made


def cuts(names: list[str], seed: int, most: int = 200, packs: int = 50) -> int:
    """Cuts rows at random lengths, and packs them.

    Each medium has its features, and no document trains its first token.
    """
    from tests.support.media_chats import words
    from tests.support.pictures import draw, processor

    failed = 0
    for name in names:
        rng = random.Random(f"{seed}-{name}")
        with TemporaryDirectory() as folder:
            options = MediaOptions(root=folder)
            masker = Masker(policy_from_text(POLICY), processor(name), media=options)
            assert masker.tokenizer.media is not None
            if "image" not in masker.tokenizer.media.tokens:
                print(json.dumps({"processor": name, "not cut": "it takes no pictures"}), flush=True)
                continue
            collate = MediaCollator(processor(name), options=options)
            rows = []
            for at in range(40):
                parts: list[dict[str, Any]] = [{"type": "text", "text": words(rng)} for _ in range(rng.randint(1, 2))]
                for each in range(rng.randint(0, 4)):
                    draw(Path(folder), f"{at}-{each}.png", rng.randint(30, 200), rng.randint(30, 200), seed=at)
                    parts.insert(rng.randint(0, len(parts)), {"type": "image", "path": f"{at}-{each}.png"})
                answer = [{"type": "text", "text": words(rng)}]
                rows.append(masker([{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]))
            found: Counter[str] = Counter()
            for _ in range(most):
                row = rng.choice(rows)
                keep = rng.choice(KEEPS)
                cut = truncate(row, Truncation(max_length=rng.randint(1, len(row.input_ids)), keep=keep))
                if cut is None:
                    found["nothing left"] += 1
                    continue
                _try(found, collate, [dict(cut.arrays())], [0])
            for _ in range(packs if masker.tokenizer.why_not_packed is None else 0):
                chosen = [dict(row.arrays()) for row in rng.sample(rows, rng.randint(2, 8))]
                for packed in pack(chosen, max(len(row["input_ids"]) for row in chosen) + rng.randint(0, 900)):
                    lengths = packed["seq_lengths"].tolist()
                    _try(found, collate, [packed], [sum(lengths[:at]) for at in range(len(lengths))], "packed")
        bad = sum(count for what, count in found.items() if what.startswith("bad"))
        failed += bool(bad)
        refused = masker.tokenizer.why_not_packed
        print(json.dumps({"processor": name, "ok": not bad, **found, "not packed": refused}), flush=True)
    return failed


def _try(found: Counter[str], collate: Any, rows: list[dict[str, Any]], firsts: list[int], what: str = "cut") -> None:
    """Counts what a collator says of rows, and if documents begin masked.

    The collator compares tokens with features.
    """
    try:
        batch = collate(rows)
    except MediaError as error:
        found[f"bad: {error.message}"] += 1
        return
    starts = [int(batch["labels"][0, at]) for at in firsts]
    found[what if all(label == -100 for label in starts) else "bad: a document trains its first token"] += 1


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.media")
    parser.add_argument("what", choices=("parity", "speed", "cuts"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480))
    given = parser.parse_intermixed_args()
    warnings.simplefilter("ignore")
    from tests.support.pictures import PROCESSORS

    names = given.names or [name for name in PROCESSORS if name != "paligemma"]
    if given.what == "parity":
        return parity(names, given.count, given.seed)
    if given.what == "cuts":
        return cuts(names, given.seed)
    return speed(names, given.count, tuple(given.size))


if __name__ == "__main__":
    sys.exit(main())
