"""The masker as `datasets` uses it: batched maps, worker processes, streams, and the cache."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from policy_engine import ConfigError, Masker, RowError, policy_from_text
from policy_engine.mask.warner import DoubtfulRoleWarning, LeftOutWarning
from tests.support.policies import ASSISTANT, SYSTEM, USER

datasets = pytest.importorskip("datasets")

STANDING = "train assistant; mask system,user; train eos after assistant"
CHATS = [
    [SYSTEM, USER, ASSISTANT],
    [USER],
    [USER, ASSISTANT, USER, ASSISTANT],
    [USER, {"role": "assistant", "content": "漢🎉"}],
]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch):
    datasets.disable_progress_bars()


def dataset(times: int = 1):
    return datasets.Dataset.from_dict({"messages": CHATS * times, "id": list(range(len(CHATS) * times))})


def expected(masker: Masker) -> list[list[int]]:
    rows = [masker(chat) for chat in CHATS]
    return [row.labels for row in rows if not row.is_empty]


def test_map():
    masker = Masker(policy_from_text(STANDING), "builtin")
    found = dataset().map(masker.batch, batched=True)
    assert found["labels"][:] == expected(masker)
    assert found["id"][:] == [0, 2, 3]
    assert found.features["input_ids"].feature.dtype == "int32"
    assert found.features["labels"].feature.dtype == "int32"


def test_map_without_the_given_columns():
    masker = Masker(policy_from_text(f"{STANDING}; scale last assistant by 0.5"), "builtin")
    found = dataset().map(masker.batch, batched=True, batch_size=2, remove_columns=["messages", "id"])
    assert found.column_names == ["input_ids", "labels", "attention_mask", "loss_weights"]
    assert found.features["loss_weights"].feature.dtype == "float32"
    assert len(found) == 3


def test_map_keeping_empty_rows():
    masker = Masker(policy_from_text(f"{STANDING}; on empty keep"), "builtin")
    found = dataset().map(masker.batch, batched=True)
    assert len(found) == len(CHATS)
    assert set(found[1]["labels"]) == {-100}


def test_two_processes_give_what_one_gives():
    masker = Masker(policy_from_text(STANDING), "builtin")
    one = dataset(4).map(masker.batch, batched=True, batch_size=3)
    two = dataset(4).map(masker.batch, batched=True, batch_size=3, num_proc=2)
    assert one.to_dict() == two.to_dict()


DROPS = f"""
import datasets
from policy_engine import Masker, policy_from_text
from tests.mask.test_datasets import CHATS, dataset

given = dataset(4).add_column("row", range(4 * len(CHATS)))
for more in ("", "; on empty keep"):
    masker = Masker(policy_from_text("{STANDING}" + more), "builtin")
    made = given.map(masker.batch, batched=True, batch_size=3, num_proc=2)
    print(sorted(set(given["row"]) - set(made["row"])), dict(masker.counts))
"""


def test_rows_that_worker_processes_leave_out() -> None:
    """Their counts do not come back, so each of them warns once, on the standard error."""
    ran = subprocess.run([sys.executable, "-c", DROPS], capture_output=True, text=True, check=True)
    assert ["[1, 5, 9, 13] {}", "[] {}"] == ran.stdout.splitlines()
    assert 2 == ran.stderr.count("LeftOutWarning: row ")
    assert (
        "has nothing to train and is left out, as others may be: the `counts` of a worker process do not" in ran.stderr
    )
    assert "`on empty error` refuses such rows, `on empty keep` keeps them" in ran.stderr


def test_the_process_that_made_the_masker_is_not_warned(recwarn: pytest.WarningsRecorder) -> None:
    masker = Masker(policy_from_text(STANDING), "builtin")
    dataset().map(masker.batch, batched=True)
    assert 1 == masker.counts["empty"]
    assert not [warning for warning in recwarn if issubclass(warning.category, LeftOutWarning)]


def test_a_stream():
    masker = Masker(policy_from_text(STANDING), "builtin")
    stream = dataset().to_iterable_dataset().map(masker.batch, batched=True, batch_size=2, remove_columns=["messages"])
    rows = list(stream)
    assert [list(row["labels"]) for row in rows] == expected(masker)
    assert [row["id"] for row in rows] == [0, 2, 3]


@pytest.mark.parametrize("policy", [STANDING, f"{STANDING}; train assistant weight 0.5"])
@pytest.mark.parametrize("unrolls", [False, True])
def test_declared_types_are_those_that_come_out(policy: str, unrolls: bool) -> None:
    masker = Masker(policy_from_text(policy), "builtin", unroll=unrolls)
    made = dataset().map(masker.batch, batched=True, remove_columns=["messages", "id"])
    assert masker.features == made.features
    stream = dataset().to_iterable_dataset()
    declared = stream.map(masker.batch, batched=True, remove_columns=["messages", "id"], features=masker.features)
    assert made.features == declared.features
    assert made.to_list() == [{name: _plain(value) for name, value in row.items()} for row in declared]
    nothing = dataset().map(
        Masker(policy_from_text("train tool"), "builtin").batch,
        batched=True,
        remove_columns=["messages", "id"],
        features=Masker(policy_from_text("train tool"), "builtin").features,
    )
    assert (0, {"input_ids", "labels", "attention_mask"}) == (len(nothing), set(nothing.column_names))


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else value


ANSWER = {"role": "assistant", "content": "Yo"}
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]


def test_one_masker_for_data_of_many_shapes():
    masker = Masker(policy_from_text("train assistant\ntrain eos after assistant"), "builtin")
    answered = {"messages": [[USER, ANSWER]]}
    shapes = [
        answered,
        {"conversations": [SHAREGPT]},
        {"messages": [SHAREGPT]},
        {"prompt": ["Hi"], "completion": ["Yo"]},
        {"prompt": [[USER]], "chosen": [[ANSWER]], "rejected": [[{**ANSWER, "content": "No"}]]},
        answered,
    ]
    for columns in shapes:
        made = datasets.Dataset.from_dict(columns).map(masker.batch, batched=True, remove_columns=list(columns))
        assert masker.features.keys() == made.features.keys(), columns
        labels = made["chosen_labels" if "chosen" in columns else "labels"][0]
        assert 3 == sum(label != -100 for label in labels), columns


def test_a_broken_first_row_is_read_as_its_own_dataset():
    """Not as the dataset that the masker read before."""
    masker = Masker(policy_from_text("train assistant\ntrain eos after assistant"), "builtin", on_error="drop")
    datasets.Dataset.from_dict({"prompt": ["Hi"], "completion": ["Yo"]}).map(masker.batch, batched=True)
    second = {"conversations": [[], SHAREGPT]}
    made = datasets.Dataset.from_dict(second).map(masker.batch, batched=True, remove_columns=list(second))
    assert (1, 1) == (len(made), masker.counts["failed"])
    with pytest.raises(ConfigError, match=r"no conversation found in 1 row; their columns are `text`"):
        datasets.Dataset.from_dict({"text": ["Hi"]}).map(masker.batch, batched=True)
    # A batch of a dataset that is known, in which no row has a shape: its rows are broken, not the dataset.
    again = {"conversations": [[], []]}
    made = datasets.Dataset.from_dict(again).map(masker.batch, batched=True, remove_columns=list(again))
    assert (0, 3) == (len(made), masker.counts["failed"])


def test_names_of_other_programs_are_told():
    masker = Masker(policy_from_text("train assistant\ntrain eos after assistant"), "builtin")
    rows = {"messages": [[{"role": "human", "content": "Hi"}, {"role": "gpt", "content": "Yo"}]]}
    with pytest.warns(DoubtfulRoleWarning) as told:
        assert 0 == len(datasets.Dataset.from_dict(rows).map(masker.batch, batched=True))
    assert ["did you mean `assistant`?", "did you mean `user`?"] == [
        str(warning.message).split("; ")[1].split(" Fix")[0] for warning in told
    ]


def test_a_map_of_single_rows_is_refused():
    with pytest.raises(ConfigError, match="batched=True"):
        dataset().map(Masker(policy_from_text(STANDING), "builtin").batch)


def test_a_bad_row_names_its_number():
    broken = datasets.Dataset.from_dict({"messages": [*CHATS[:1], [{"role": "user", "content": None}], []]})
    masker = Masker(policy_from_text(STANDING), "builtin")
    with pytest.raises(Exception, match="row 2"):
        broken.map(masker.batch, batched=True, batch_size=1, with_indices=True)


def test_the_cache_hits_unless_the_meaning_changed():
    from datasets.fingerprint import Hasher

    def of(policy: str) -> str:
        return Hasher.hash(Masker(policy_from_text(policy), "builtin").batch)

    assert of(STANDING) == of(f"# standing\n{STANDING}  # why")
    assert of(STANDING) != of("train assistant")


def test_use_does_not_change_the_hash():
    from datasets.fingerprint import Hasher

    masker = Masker(policy_from_text(f"{STANDING}; on unrendered warn"), "builtin")
    before = Hasher.hash(masker.batch)
    masker.batch({"messages": CHATS})
    assert Hasher.hash(masker.batch) == before


@pytest.mark.parametrize("order", ["datasets first", "policy_engine first"])
def test_the_hash_is_the_same_in_every_process(order: str, tmp_path: Path):
    imports = ["from datasets.fingerprint import Hasher", "from policy_engine import Masker, policy_from_text"]
    script = "\n".join(imports if order == "datasets first" else imports[::-1])
    script += f"\nprint(Hasher.hash(Masker(policy_from_text({STANDING!r}), 'builtin').batch))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "HF_HOME": str(tmp_path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_a_second_map_reads_the_cache_unless_a_rule_changed(tmp_path: Path):
    datasets.Dataset.from_dict({"messages": CHATS}).save_to_disk(str(tmp_path / "data"))
    calls: list[int] = []

    def cache_of(policy: str) -> tuple[str, ...]:
        masker = Masker(policy_from_text(policy), "builtin")
        mapped = datasets.Dataset.load_from_disk(str(tmp_path / "data")).map(masker.batch, batched=True)
        calls.append(masker.counts["rows"])
        return tuple(file["filename"] for file in mapped.cache_files)

    first = cache_of(STANDING)
    assert cache_of(STANDING) == first
    assert cache_of(f"# a comment\n{STANDING}") == first
    assert cache_of("train assistant") != first
    assert [bool(rows) for rows in calls] == [True, False, False, True]


def test_processes_forked_while_threads_mask():
    masker = Masker(policy_from_text(STANDING), "builtin")
    want, wrong, stop = expected(masker), [], threading.Event()

    def mask_on() -> None:
        while not stop.is_set():
            wrong.extend(chat for chat, row in zip(CHATS, map(masker, CHATS)) if row.labels != labels[id(chat)])

    labels = {id(chat): masker(chat).labels for chat in CHATS}
    threads = [threading.Thread(target=mask_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        found = dataset(4).map(masker.batch, batched=True, batch_size=4, num_proc=2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert found["labels"][:] == want * 4
    assert [] == wrong


def test_in_coroutines():
    masker = Masker(policy_from_text(STANDING), "builtin")

    async def several() -> list[list[int]]:
        rows = await asyncio.gather(*(asyncio.to_thread(masker, chat) for chat in CHATS * 10))
        return [row.labels for row in (*rows, masker(CHATS[0]))]

    assert [masker(chat).labels for chat in [*CHATS * 10, CHATS[0]]] == asyncio.run(several())


def test_columns_of_pandas_are_read_by_their_place():
    pandas = pytest.importorskip("pandas")
    masker = Masker(policy_from_text(STANDING), "builtin")
    table = pandas.DataFrame({"messages": [[], *CHATS], "id": range(5)}).iloc[1:]
    found = masker.batch(table)
    assert [row.tolist() for row in found["labels"]] == expected(masker)
    assert found["id"] == [1, 3, 4]
    assert list(table["id"]) == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["numpy", "pandas"])
def test_arrays_of_messages_are_refused_with_what_to_say(name: str):
    rows = dataset().with_format(name)[:]
    with pytest.raises((RowError, ConfigError), match=r"(?s)a ndarray.*with_format\(None\)"):
        Masker(policy_from_text(STANDING), "builtin").batch({"messages": rows["messages"]})


def test_a_row_of_pandas_is_no_conversation():
    pandas = pytest.importorskip("pandas")
    row = pandas.DataFrame({"messages": CHATS, "id": range(4)}).iloc[0]
    with pytest.raises(RowError, match="an object with the keys `messages`, `id`, not a list of messages"):
        Masker(policy_from_text(STANDING), "builtin")(row)
