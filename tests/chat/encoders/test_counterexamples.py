"""Conversations that a proof gives against a guard, replayed on encoders: it breaks on their text, too."""

from __future__ import annotations

import pytest

from policy_engine import Masker, load_tokenizer
from policy_engine.core.errors import GuardError
from policy_engine.lang.check import check_text
from policy_engine.proof.policy_proof import prove
from policy_engine.rules.compile import compile_text
from tests.support.encoder_files import encoder_folder
from tests.support.tokenizers import package

ENCODERS = ("mistral", "code")
FALSE = (
    "train user\nnever train user\n",
    'train user where message.content contains "yes"\nnever train user\n',
    "train everything\nnever train system\n",
    "train eos after user\ntrain user\nnever train user.text\n",
)


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    if request.param == "mistral":
        return load_tokenizer(package("mistral_common") / "data" / "mistral_instruct_tokenizer_240323.model.v3")
    return load_tokenizer(encoder_folder(tmp_path_factory.mktemp("encoder")), trust_encoder=True)


@pytest.mark.parametrize("policy", FALSE)
def test_a_counterexample_breaks_the_guard_on_the_encoder(encoder: object, policy: str) -> None:
    (finding,) = prove(check_text(policy)).guards
    assert finding.witness is not None
    with pytest.raises(GuardError) as caught:
        Masker(compile_text(policy), encoder).mask(finding.witness.conversation)
    assert f"  message {finding.witness.place.turn}, role `" in str(caught.value)
