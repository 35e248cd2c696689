"""ms-swift itself, its whole `sft` with one step on a tiny model: ids, labels and weights reach its trainer token by
token, and its loss is the one computed by hand; what goes wrong with its own settings is held too, as the docs say it.
The same through `doctor`, with faults that it has to name.

Needs the package, which `make frameworks` installs in an environment of its own.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("modelscope")
pytest.importorskip("swift.template")

from policy_engine.adapters.swift import TEMPLATE, register, swift_row  # noqa: E402
from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.errors import ConfigError, RowError  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.doctor.examination import Examination, Finding  # noqa: E402
from policy_engine.doctor.examine import examine  # noqa: E402
from policy_engine.doctor.runners import check_names  # noqa: E402
from policy_engine.doctor.samples import read_sample  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402
from policy_engine.run.pack import pack  # noqa: E402
from tests.cli.support import cli  # noqa: E402

PLAIN = "train assistant; train eos after assistant"
WEIGHTED = "train assistant weight 0.5; train eos after assistant weight 2"
CLOSE = 1e-5
Row = dict[str, list[Any]]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HF_HUB_OFFLINE", "1"), ("USE_HF", "1"), ("MODELSCOPE_CACHE", str(tmp_path / "cache"))):
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = str(tmp_path_factory.mktemp("model"))
    tokenizer = load_tokenizer("builtin").tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def arrays_of(policy: str, count: int = 4) -> list[dict[str, Any]]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    chats = [r["messages"] for r in sample_rows() if isinstance(r.get("messages"), list) and not r.get("tools")]
    return [masker(chat).arrays() for chat in chats[:count]]


def rows_of(policy: str, count: int = 4) -> list[Row]:
    return [{name: column.tolist() for name, column in row.items()} for row in arrays_of(policy, count)]


def by_hand(model: Any, rows: Sequence[Row]) -> float:
    """Weight times negative log likelihood, over the number of trained tokens: every row and token by itself."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in rows:
            logs = torch.log_softmax(model(input_ids=torch.tensor([row["input_ids"]])).logits[0].float(), dim=-1)
            for at, label in enumerate(row["labels"]):
                if label != IGNORE_INDEX:
                    total += row.get("loss_weights", [1.0] * (at + 1))[at] * -float(logs[at - 1, label])
                    tokens += 1
    return total / tokens


def sft(folder: Path, model: str, rows: Sequence[Row], *options: str) -> tuple[list[dict[str, Any]], float, Any]:
    """The batches, the loss summed over them, and the model of one step of `swift sft`, from a file as the docs say."""
    from datasets import Dataset
    from swift.pipelines import sft_main
    from swift.trainers import Seq2SeqTrainer

    given = Dataset.from_list(list(rows))
    given.map(swift_row, remove_columns=given.column_names).to_json(str(folder / "rows.jsonl"))
    plugin = folder / "plugin.py"
    plugin.write_text("from policy_engine.adapters.swift import register\n\nregister()\n")
    batches: list[dict[str, Any]] = []
    losses: list[float] = []
    models: list[Any] = []
    training_step = Seq2SeqTrainer.training_step

    def spy(self: Any, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        batches.append({name: value.tolist() for name, value in inputs.items() if hasattr(value, "tolist")})
        loss = training_step(self, model, inputs, *rest, **more)
        losses.append(float(loss.detach()))
        models.append(model)
        return loss

    settings = {
        "model": model, "model_type": "llama", "tuner_type": "full", "torch_dtype": "float32", "use_cpu": "true",
        "external_plugins": str(plugin), "template": TEMPLATE, "dataset": str(folder / "rows.jsonl"), "strict": "true",
        "max_steps": "1", "learning_rate": "0", "output_dir": str(folder / "out"), "report_to": "none",
        "load_from_cache_file": "false", "split_dataset_ratio": "0", "save_strategy": "no",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Seq2SeqTrainer, "training_step", spy)
        sft_main([part for name, value in settings.items() for part in (f"--{name}", value)] + list(options))
    return batches, sum(losses), models[0].eval()


def reached(batches: Sequence[dict[str, Any]]) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]]:
    """Ids, labels and weights of the rows of the batches, without padding."""
    found = []
    for batch in batches:
        for at, mask in enumerate(batch["attention_mask"]):
            size = sum(mask)
            assert [1] * size + [0] * (len(mask) - size) == mask
            assert {IGNORE_INDEX} >= set(batch["labels"][at][size:])
            found.append(tuple(tuple(batch[name][at][:size]) for name in ("input_ids", "labels", "loss_scale")))
    return sorted(found)  # type: ignore[arg-type]


def expected(rows: Sequence[Row]) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]]:
    made = []
    for row in rows:
        weights = row.get("loss_weights", [float(label != IGNORE_INDEX) for label in row["labels"]])
        made.append((tuple(row["input_ids"]), tuple(row["labels"]), tuple(weights)))
    return sorted(made)


@pytest.mark.parametrize(("policy", "batch", "accumulated"), [(PLAIN, 4, 1), (WEIGHTED, 4, 1), (WEIGHTED, 2, 2)])
def test_a_step(model_folder: str, tmp_path: Path, policy: str, batch: int, accumulated: int) -> None:
    rows = rows_of(policy)
    batches, loss, model = sft(
        tmp_path, model_folder, rows,
        "--per_device_train_batch_size", str(batch), "--gradient_accumulation_steps", str(accumulated),
    )  # fmt: skip
    assert accumulated == len(batches)
    assert expected(rows) == reached(batches)
    assert by_hand(model, rows) == pytest.approx(loss, abs=CLOSE)


@pytest.fixture(scope="module")
def processor(model_folder: str) -> Any:
    from swift.model import get_processor

    register()
    return get_processor(model_folder, model_type="llama", use_hf=True)


def encode(processor: Any, row: dict[str, Any], template: str = TEMPLATE, **settings: Any) -> dict[str, Any]:
    from swift.template import get_template

    made = get_template(processor, template_type=template, **settings)
    made.set_mode("train")
    encoded: dict[str, Any] = made.encode(row)
    return encoded


def test_rows_laid_end_to_end(processor: Any) -> None:
    """What its packing and `padding_free` hand to the model, which need a flash attention to run."""
    from swift.template import get_template

    template = get_template(processor, template_type=TEMPLATE, padding_free=True)
    template.set_mode("train")
    rows = rows_of(WEIGHTED)
    batch = template.data_collator([template.encode(swift_row(row), return_length=True) for row in rows])
    columns = {"input_ids": "input_ids", "labels": "labels", "loss_scale": "loss_weights"}
    for name, ours in columns.items():
        assert [value for row in rows for value in row[ours]] == batch[name][0].tolist()
    assert [at for row in rows for at in range(len(row["input_ids"]))] == batch["position_ids"][0].tolist()
    assert "attention_mask" not in batch


def test_a_template_goes_to_workers_by_pickle(processor: Any) -> None:
    from swift.template import get_template

    template = get_template(processor, template_type=TEMPLATE)
    template.set_mode("train")
    row = swift_row(rows_of(WEIGHTED)[0])
    assert template.encode(row) == pickle.loads(pickle.dumps(template)).encode(row)


def test_its_own_template_adds_and_trains_end_markers(processor: Any) -> None:
    row = rows_of("train assistant")[0]
    eos = load_tokenizer("builtin").tokenizer.eos_token_id
    ours, theirs = encode(processor, swift_row(row)), encode(processor, swift_row(row), "dummy")
    assert row["labels"] == ours["labels"]
    assert eos not in ours["labels"]
    assert [*row["input_ids"], eos] == theirs["input_ids"]
    assert 1 < theirs["labels"].count(eos)


def test_its_own_template_writes_a_second_begin_marker(model_folder: str) -> None:
    from swift.model import get_processor
    from tokenizers.processors import TemplateProcessing

    register()
    processor = get_processor(model_folder, model_type="llama", use_hf=True)
    bos = processor.convert_tokens_to_ids("<|endoftext|>")
    processor._tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
    )
    row = swift_row({"input_ids": [bos, 5, 6], "labels": [IGNORE_INDEX, IGNORE_INDEX, 6]})
    assert [bos, bos, 5, 6, processor.eos_token_id] == encode(processor, row, "dummy")["input_ids"]
    assert [bos, 5, 6] == encode(processor, row)["input_ids"]


def test_its_own_default_drops_weights(processor: Any) -> None:
    row = swift_row(rows_of(WEIGHTED)[0])
    assert "loss_scale" not in encode(processor, row, "dummy")
    assert row["messages"][0]["content"]["loss_scale"] == encode(processor, row)["loss_scale"]
    with pytest.raises(RowError, match="has weights"):
        encode(processor, row, is_binary_loss_scale=True)
    assert "loss_scale" not in encode(processor, swift_row(rows_of(PLAIN)[0]), is_binary_loss_scale=True)


def test_columns_are_not_taken(processor: Any) -> None:
    with pytest.raises(KeyError, match="messages"):
        encode(processor, rows_of(PLAIN)[0], "dummy")


@pytest.mark.parametrize("settings", [{"use_chat_template": False}, {"template_backend": "jinja"}])
def test_settings_that_add_tokens_are_refused(processor: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(settings))}: "):
        encode(processor, swift_row(rows_of(PLAIN)[0]), **settings)


def test_conversations_are_refused(processor: Any) -> None:
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    for messages in (
        chat,
        chat[1:],
        [{"role": "system", "content": "Be kind"}, *swift_row(rows_of(PLAIN)[0])["messages"]],
    ):
        with pytest.raises(RowError, match="is a conversation"):
            encode(processor, {"messages": messages})


def doctor(rows: Sequence[dict[str, Any]], **settings: Any) -> Examination:
    sample = read_sample(list(enumerate(rows, 1)), {})
    return examine(sample, "swift", settings=settings, tokenizer=load_tokenizer("builtin").tokenizer)


def fault(found: Examination) -> Finding:
    (finding,) = (f for f in found.findings if f.severity == "error")
    return finding


@pytest.mark.parametrize("policy", [PLAIN, WEIGHTED])
@pytest.mark.parametrize("settings", [{}, {"padding_side": "left"}, {"use_logits_to_keep": True}])
def test_doctor_passes_clean_rows(policy: str, settings: dict[str, Any]) -> None:
    rows = rows_of(policy)
    found = doctor(rows, **settings, deepspeed="zero2", learning_rate=1e-4)
    assert () == found.findings
    assert by_hand_loss(found) == pytest.approx(found.loss, abs=CLOSE)
    size = sum(len(row["input_ids"]) for row in rows)
    assert (size, size, size if policy == WEIGHTED else 0) == tuple(
        found.checked[name] for name in ("ids", "labels", "weights")
    )
    assert (settings, ("deepspeed", "learning_rate"), "4.6.0") == (found.settings, found.left_out, found.version)


def by_hand_loss(found: Examination) -> float:
    assert found.by_hand is not None
    return found.by_hand


def test_doctor_divides_weights_by_the_number_of_tokens() -> None:
    rows = rows_of(WEIGHTED)
    weights = [w for row in rows for w, label in zip(row["loss_weights"], row["labels"]) if label != IGNORE_INDEX]
    doubled = [{**row, "loss_weights": [2 * w for w in row["loss_weights"]]} for row in rows]
    assert sum(weights) != len(weights)
    assert 2 * by_hand_loss(doctor(rows)) == pytest.approx(by_hand_loss(doctor(doubled)), abs=CLOSE)


@pytest.mark.parametrize(
    ("policy", "settings", "code", "said"),
    [
        (WEIGHTED, {"is_binary_loss_scale": True}, "refused", "ms-swift drops them"),
        (WEIGHTED, {"is_binary_loss_scale": True, "strict": False}, "refused", "without `strict`"),
        (WEIGHTED, {"label_smoothing_factor": 0.1}, "loss", "the trainer's loss is"),
        (PLAIN, {"enable_dft_loss": True}, "loss", "the trainer's loss is"),
        (PLAIN, {"template": "dummy"}, "ids-changed", "4 documents of the batch are not in the data"),
        (PLAIN, {"max_length": 40}, "refused", "larger than the max_length"),
        (PLAIN, {"max_length": 40, "truncation_strategy": "right"}, "cut", "the trainer cut 2 documents"),
        (PLAIN, {"truncation_strategy": "middle"}, "refused", "invalid choice: 'middle'"),
        (PLAIN, {"use_chat_template": False}, "refused", "adds tokens of its own"),
        (PLAIN, {"packing": True}, "refused", "flash attention"),
    ],
)
def test_doctor_finds_what_goes_wrong(policy: str, settings: dict[str, Any], code: str, said: str) -> None:
    finding = fault(doctor(rows_of(policy), **settings))
    assert code == finding.code
    assert said in finding.message


def test_doctor_finds_packed_rows_and_labels_that_are_shifted() -> None:
    packed = [{name: column.tolist() for name, column in row.items()} for row in pack(arrays_of(PLAIN), 400)]
    finding = fault(doctor(packed))
    assert ("refused", True) == (finding.code, "the row is packed" in finding.message)
    shifted = [{**row, "labels": [*row["labels"][1:], IGNORE_INDEX]} for row in rows_of(PLAIN)]
    assert {"shifted", "refused"} <= {f.code for f in doctor(shifted).findings if f.severity == "error"}


def test_the_command(tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    rows = [r for r in sample_rows() if isinstance(r.get("messages"), list) and not r.get("tools")][:4]
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    masked = tmp_path / "masked.parquet"
    assert 0 == cli("apply", str(chats), "-p", "default", "-t", "builtin", "-o", str(masked)).code
    result = cli("doctor", str(masked), "--trainer", "swift", "--format", "json")
    found = json.loads(result.out)
    assert 0 == result.code, found
    assert found["loss_by_hand"] == pytest.approx(found["loss"], abs=CLOSE)
    with pytest.raises(ConfigError, match="doctor reads no setting `is_binary_loss`"):
        check_names("swift", ["is_binary_loss"])
