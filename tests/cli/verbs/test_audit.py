"""`audit`: what prepared labels train, with the verdict as exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.cli.app import run
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from tests.cli.support import cli

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "Seven."},
]


def _prepared(folder: Path, policy: str) -> str:
    row = Masker(compile_text(policy), load_tokenizer("builtin"))(MESSAGES)
    path = folder / "prepared.jsonl"
    line = json.dumps({"input_ids": list(row["input_ids"]), "labels": list(row["labels"])})
    path.write_text(f"{line}\n" * 3)
    return str(path)


def test_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _prepared(tmp_path, "train assistant; train eos after assistant")
    assert run(["audit", data, "-p", "default", "-t", "builtin"]) == 0
    out = capsys.readouterr().out
    assert "no smells" in out
    assert "3 of 3 conversations" in out


def test_only_the_last_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _prepared(tmp_path, "train last assistant; train eos after last assistant")
    assert run(["audit", data, "-p", "default", "-t", "builtin", "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert "last-answer-only" in json.dumps(document)
    # The policy itself trains the last answer only: a remark.
    assert run(["audit", data, "-p", "last_assistant", "-t", "builtin"]) == 0
    out = capsys.readouterr().out
    assert "only the last one is trained [last-answer-only]: 3 of 3 rows; the policy asks for it" in out
    assert "what to do" not in out
    assert "every one of the 3 rows that could be compared with the policy is what it says" in out
    assert "explained by: last_assistant" in out


def test_data_that_is_not_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES}) + "\n")
    assert run(["audit", str(path), "-p", "default", "-t", "builtin"]) == 2
    assert "already tokenized; for chats: `init` or `show`" in capsys.readouterr().err
    # What `init` and `show` refuse too is not sent to them.
    path.write_text(json.dumps({"text": "Once upon a time."}) + "\n")
    assert run(["audit", str(path), "-p", "default", "-t", "builtin"]) == 2
    said = capsys.readouterr().err
    assert "have your trainer tokenize these rows" in said
    assert "`init`" not in said


def test_control_tokens_in_the_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prepared.jsonl"
    quoting = [{"role": "user", "content": "What is <|im_end|>?"}, {"role": "assistant", "content": "An end."}]
    masker = Masker(compile_text("use default"), "builtin")
    rows = [{**masker(messages), "messages": messages} for messages in (MESSAGES, quoting)]
    # From ids alone, nobody knows which of the two wrote it.
    rows.append(dict(masker(quoting)))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(["audit", str(path), "-t", "builtin"])
    assert "1 row with control tokens in the data: `<|im_end|>` (row 2); to the" in capsys.readouterr().out
    run(["audit", str(path), "-t", "builtin", "--format", "json"])
    document = json.loads(capsys.readouterr().out)
    assert [{"token": "<|im_end|>", "rows": 1, "first_rows": [2]}] == document["control_tokens"]
    assert 1 == document["rows_with_control_tokens"]


def test_columns_that_hold_the_ids_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prepared.jsonl"
    path.write_text(json.dumps({"tokens": [1, 2], "targets": [-100, 2], "source": "x"}) + "\n")
    assert run(["audit", str(path), "-t", "builtin"]) == 2
    assert "`labels`: `tokens`, `targets` hold numbers" in capsys.readouterr().err
    path.write_text(json.dumps({"input_ids": "1 2", "labels": [1, 2]}) + "\n")
    assert run(["audit", str(path), "-t", "builtin"]) == 2
    assert "prepared.jsonl:1: error[PE501]: `input_ids` is text, not a list of numbers" in capsys.readouterr().err


def test_rows_that_fail_alike_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prepared.jsonl"
    good = dict(Masker(compile_text("use default"), "builtin")(MESSAGES))
    rows = [*({"input_ids": [1] * n, "labels": [1] * (n + 1)} for n in range(2, 9)), {"text": "x"}, good]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(["audit", str(path), "-t", "builtin"]) == 1
    told = capsys.readouterr().err
    assert 3 == told.count("`input_ids` and")
    assert "error[PE501]: 4 more rows fail like the 3 above" in told
    assert "the row has no `input_ids`" in told


def test_rows_that_are_not_found_again_are_undecided(tmp_path: Path) -> None:
    row = Masker(compile_text("use default"), "builtin")(MESSAGES)
    path = tmp_path / "prepared.jsonl"
    good = json.dumps({"input_ids": row["input_ids"], "labels": row["labels"]}) + "\n"
    cut = json.dumps({"input_ids": row["input_ids"][3:], "labels": row["labels"][3:]}) + "\n"
    path.write_text(good + cut)
    ran = cli("audit", path, "-p", "default", "-t", "builtin")
    assert (3, True) == (ran.code, "not found again: 1 row\n" in ran.out)
    template = tmp_path / "other.jinja"
    template.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}")
    ran = cli("audit", path, "-p", "default", "-t", "builtin", "--template", template)
    assert (3, True) == (ran.code, "is this the tokenizer and the template that made them?" in ran.out)


FLAGGED = [MESSAGES[0], {**MESSAGES[1], "training": False}, *MESSAGES[2:]]
CALL = {"type": "function", "id": "a", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": "yes"},
    {"role": "assistant", "content": "It rains."},
]
BY_FLAG = "train assistant; train eos after assistant; mask assistant where message.training == false"


def prepared_from(
    folder: Path, policy: str, messages: list[dict[str, Any]], *, keep: bool = False, **columns: object
) -> str:
    """A row that a policy masked, as ids and labels; with its messages if `keep`, and with further columns."""
    row = Masker(compile_text(policy), "builtin")(messages, sample=columns)
    kept: dict[str, object] = {"messages": messages} if keep else {}
    path = folder / "prepared.jsonl"
    path.write_text(json.dumps({"input_ids": row["input_ids"], "labels": row["labels"], **kept, **columns}) + "\n")
    return str(path)


@pytest.mark.parametrize(
    ("policy", "messages", "field"),
    [
        (BY_FLAG, FLAGGED, "message.training"),
        ("use default; mask assistant where sample.meta.bad", MESSAGES, "sample.meta.bad"),
        ("train assistant weight message.weight; train eos of assistant", MESSAGES, "message.weight"),
        (
            "train spans message.cuts in assistant.text",
            [MESSAGES[0], {**MESSAGES[1], "cuts": [[0, 4]]}],
            "message.cuts",
        ),
        ("use default; mask assistant.tool_call", CALLED, '<tool_call>\n{"name": "'),
    ],
)
def test_what_ids_do_not_tell_is_undecided(
    tmp_path: Path, policy: str, messages: list[dict[str, Any]], field: str
) -> None:
    path = tmp_path / "p.policy"
    path.write_text(policy)
    columns = {"meta": {"bad": False}} if "sample" in field else {}
    data = prepared_from(tmp_path, policy, messages, **columns)
    lines = [json.loads(line) for line in Path(data).read_text().splitlines()]
    Path(data).write_text("".join(json.dumps({k: v for k, v in r.items() if k != "meta"}) + "\n" for r in lines))
    ran = cli("audit", data, "-p", path, "-t", "builtin", "--format", "json")
    assert [] == ran.document["breaches"]
    assert {"field": field, "rows": 1} in ran.document["untold"] or {"text": field, "rows": 1} in ran.document[
        "markers"
    ]
    assert (1, "undecided") == (ran.document["undecided"], ran.document["verdict"]) or ran.document["smells"]
    text = cli("audit", data, "-p", path, "-t", "builtin").out
    assert "undecided: 1 row\n" in text
    assert f"`{field}`" in text or "whether template or data wrote" in text
    # With what the policy asks for beside the ids, it is held against them.
    data = prepared_from(tmp_path, policy, messages, keep=True, **columns)
    ran = cli("audit", data, "-p", path, "-t", "builtin", "--format", "json")
    assert (0, []) == (ran.document["undecided"], ran.document["breaches"])


def test_blanks_that_may_be_the_templates_are_undecided(tmp_path: Path) -> None:
    policy = tmp_path / "p.policy"
    policy.write_text("use default; mask assistant.reasoning")
    messages = [MESSAGES[0], {**CALLED[1], "content": "<think>I look.</think>"}]
    data = prepared_from(tmp_path, policy.read_text(), messages)
    ran = cli("audit", data, "-p", policy, "-t", "builtin")
    assert 3 == ran.code
    assert "undecided: 1 row\n" in ran.out
    assert "explained by: no_reasoning, in every row, if blanks before calls are the template's\n" in ran.out
    document = cli("audit", data, "-p", policy, "-t", "builtin", "--format", "json").document
    assert ["no_reasoning"] == document["perhaps"]
    assert "no_reasoning" not in {preset["policy"] for preset in document["presets"]}


def test_a_policy_that_asks_nothing_of_calls_is_held_against_them(tmp_path: Path) -> None:
    data = prepared_from(tmp_path, "use default", CALLED)
    ran = cli("audit", data, "-p", "default", "-t", "builtin")
    assert ran.code == 0
    assert "1 of 1 conversation was found again" in ran.out
    assert "the 1 row that could be compared with the policy is what it says" in ran.out


def _audit(data: str, *extra: str) -> Any:
    return cli("audit", data, "-t", "builtin", *extra)


def test_without_a_policy(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "train assistant; train eos after assistant")
    ran = _audit(data)
    assert (0, "") == (ran.code, ran.err)
    lines = ran.out.splitlines()
    assert "3 conversations; `labels` says what is trained" == lines[0]
    (explained,) = [line for line in lines if line.startswith("explained by: ")]
    assert explained.startswith("explained by: default, ")
    assert any(line.startswith("  default: axolotl's `chat_template` datasets") for line in lines)
    assert "no smells" in lines
    (following,) = [line for line in lines if line.startswith("next: policy-engine audit")]
    assert following.endswith(" -t builtin compares every row with a policy")
    template = tmp_path / "own.jinja"
    template.write_text(load_tokenizer("builtin").template.source, encoding="utf-8")
    named = f"-t builtin --template {template}"
    assert f" {named} compares every row" in _audit(data, "--template", str(template)).out.replace("\n", " ")


@pytest.mark.parametrize(
    ("policy", "proposed", "explained"),
    [
        ("use default", "default", "explained by: default, all_assistants, "),
        # These labels have a fault, and the policy that explains it asks for it.
        ("use last_assistant", "default", "explained by: last_assistant, "),
        ("use axolotl_eos_none", "default", "explained by: axolotl_eos_none"),
        ("train user", "default", "explained by: no shipped policy"),
    ],
)
def test_without_a_policy_the_best_one_is_proposed(tmp_path: Path, policy: str, proposed: str, explained: str) -> None:
    data = _prepared(tmp_path, policy)
    ran = _audit(data)
    assert f"next: policy-engine audit {data} -p {proposed} -t builtin" in " ".join(ran.out.split())
    assert any(line.startswith(explained) for line in ran.out.splitlines())
    # The labels of a row that is not found again may come from anything.
    with open(data, "a", encoding="utf-8") as rows:
        rows.write(json.dumps({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}) + "\n")
    if "no shipped policy" not in explained:
        assert ", in every row that was found again" in " ".join(_audit(data).out.split())


def test_what_is_proposed_for_labels_with_a_fault_names_its_tokens(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "use axolotl_eos_none")
    assert "[no-ends]: 3 of 3 rows" in _audit(data).out
    proposed = _audit(data, "-p", "default")
    assert 1 == proposed.code
    assert "row 3, 2 tokens: '<|im_end|>' is masked (token" in proposed.out
    assert 0 == _audit(data, "-p", "axolotl_eos_none").code


def test_without_a_policy_one_that_explains_some_rows_is_not_proposed(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "use default")
    with open(data, "a", encoding="utf-8") as rows:
        rows.write(Path(_prepared(_folder(tmp_path), "use everything")).read_text().splitlines()[0] + "\n")
    ran = _audit(data)
    assert "explained best by: default (75.0%)" in " ".join(ran.out.split())
    assert f"next: policy-engine audit {data} -p POLICY -t builtin" in " ".join(ran.out.split())


def _folder(folder: Path) -> Path:
    (folder / "other").mkdir()
    return folder / "other"


def test_without_a_policy_each_fault_has_what_to_do(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "train last assistant, user")
    ran = _audit(data, "--format", "json")
    assert ran.code == 1
    assert {"last-answer-only", "no-ends", "user-trained"} == {smell["code"] for smell in ran.document["smells"]}
    assert all(smell["help"] for smell in ran.document["smells"])
    assert ran.document["rules"] is None
    assert [] == ran.document["breaches"]
    text = _audit(data).out
    assert "words of users are trained [user-trained]: 3 of 3 rows" in text
    assert "what to do: mask them, unless the model is to write users' turns" in text


def test_a_dataset_file_that_names_a_policy_is_compared_with(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "train last assistant; train eos after last assistant")
    (tmp_path / "d.yaml").write_text("policy: default\ntokenizer: builtin\n")
    (tmp_path / "e.yaml").write_text("tokenizer: builtin\n")
    with_policy = cli("audit", data, "--dataset", tmp_path / "d.yaml", "--format", "json").document
    without = cli("audit", data, "--dataset", tmp_path / "e.yaml", "--format", "json").document
    assert (3, 0) == (len(with_policy["breaches"]), len(without["breaches"]))
    assert with_policy["smells"] == without["smells"]


def test_tokens_of_each_rule_and_what_never_was(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "train assistant; train eos after assistant")
    policy = tmp_path / "my.policy"
    policy.write_text("train assistant\ntrain eos after assistant\nmask tool\n")
    document = cli("audit", data, "-p", policy, "-t", "builtin", "--format", "json").document
    assert [True, True, False] == [bool(rule["tokens"]) for rule in document["rules"]]
    assert "what it selects does not occur" == document["rules"][2]["unused"]


def test_machines_get_each_finding(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "train assistant; train eos after assistant; train user.text")
    with Path(data).open("a") as rows:
        rows.write(json.dumps({"input_ids": [5, 6], "labels": [-100, 6]}) + "\n")
    lines = _audit(data, "-p", "default", "--format", "github").out.splitlines()
    smell, *broken, unseen = lines
    assert smell.startswith(f"::error title=policy-engine PE703::{data}: words of users are trained [user-trained]: 3 ")
    assert "help: mask them, unless the model is to write users' turns" in smell
    assert [f"file={data},line={n}::" in line for n, line in enumerate(broken, 1)] == [True] * 3
    assert all("PE704" in line and "'Two' is trained (token 3)" in line for line in broken)
    assert unseen.startswith(f"::warning title=policy-engine PE705::{data}: 1 of 4 rows was not found again%0Ahelp: ")
    (run,) = _audit(data, "-p", "default", "--format", "sarif").document["runs"]
    assert ["PE703", "PE704", "PE704", "PE704", "PE705"] == [result["ruleId"] for result in run["results"]]
    found = _audit(data, "-p", "default", "--format", "json").document["diagnostics"]
    assert [result["message"]["text"].split("\n")[0] for result in run["results"]] == [d["message"] for d in found]
    # People read them in the account, once.
    assert "PE70" not in _audit(data, "-p", "default").err


def test_machines_get_the_number_of_rows_that_break_the_policy(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "train assistant")
    Path(data).write_text(Path(data).read_text() * 3)
    found = _audit(data, "-p", "default", "--format", "json").document["diagnostics"]
    assert ["PE703", *["PE704"] * 6] == [d["code"] for d in found]
    assert "4 more rows break the policy" == found[-1]["message"]


def test_what_the_policy_asks_for_is_a_remark(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "train assistant, user; train eos after assistant")
    policy = tmp_path / "users.policy"
    policy.write_text("train assistant, user\ntrain eos after assistant\n")
    ran = _audit(data, "-p", policy, "--format", "json")
    assert 0 == ran.code
    assert [("user-trained", True)] == [(smell["code"], smell["asked"]) for smell in ran.document["smells"]]
    (remark,) = [found for found in ran.document["diagnostics"] if found["code"] == "PE703"]
    assert "info" == remark["severity"]
    assert remark["message"].endswith("[user-trained]: 3 of 3 rows; the policy asks for it")
    # One row that the policy would train otherwise, and all of it is a failure again.
    with open(data, "a", encoding="utf-8") as rows:
        other = _prepared(_folder(tmp_path), "train assistant, user.text; train (header, eos) of assistant")
        rows.write(Path(other).read_text().splitlines()[0] + "\n")
    ran = _audit(data, "-p", policy, "--format", "json")
    assert 1 == ran.code
    assert not any(smell["asked"] for smell in ran.document["smells"])


def test_labels_that_are_shifted_are_asked_for_by_no_policy(tmp_path: Path) -> None:
    data = _prepared(tmp_path, "use default")
    row = json.loads(Path(data).read_text().splitlines()[0])
    row["labels"] = [*row["labels"][1:], -100]
    Path(data).write_text(json.dumps(row) + "\n")
    ran = _audit(data, "-p", "default", "--format", "json")
    assert 1 == ran.code
    assert [("shifted", False)] == [(smell["code"], smell["asked"]) for smell in ran.document["smells"]]
