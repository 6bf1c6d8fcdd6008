"""Secrets in arguments and environments never reach a file; what is no secret stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sofa_otel.core.redact import HIDDEN, Redactor, redact_argv, redact_environ, redact_text

SECRET = "hunter2-Zq9"


@pytest.mark.parametrize(
    "argv",
    [
        [f"--token={SECRET}"], ["--token", SECRET], ["--api-key", SECRET], [f"--api_key={SECRET}"], ["--wandb-key", SECRET],
        ["--password", SECRET], [f"-password={SECRET}"], [f"PASSWORD={SECRET}"], ["--hf_token", SECRET],
        [f"+trainer.secret={SECRET}"],
        [f"AWS_SECRET_ACCESS_KEY={SECRET}"], [f"postgres://user:{SECRET}@db/x"], [f"--db=mysql://{SECRET}@db/x"],
        [f"https://h/p?a=1&access_token={SECRET}"], ["-H", f"Authorization: Bearer {SECRET}"],
        [f"--header=Authorization: Basic {SECRET}"],
        ["-c", f"import os; os.environ['API_KEY'] = '{SECRET}'"], ["bash", "-c", f"export HF_TOKEN={SECRET}; python t.py"],
        [f'--config={{"password": "{SECRET}", "lr": 1}}'], ["--client-secret", SECRET], ["--auth", SECRET],
        [f"logger.key={SECRET}"],
        ["--cookie", SECRET], ["--credentials", SECRET],
    ],
)  # fmt: skip
def test_secrets_go(argv: list[str]) -> None:
    found = redact_argv(argv)
    assert SECRET not in " ".join(found)
    assert len(found) == len(argv)
    assert HIDDEN in " ".join(found)


@pytest.mark.parametrize(
    "argv",
    [
        ["python", "train.py", "--lr=0.1", "--epochs", "3"],
        ["--max-tokens", "512", "--max_new_tokens=5", "--tokens-per-batch", "9", "--tokenizer", "gpt2", "--pad_token_id=0"],
        ["--sort-keys=1", "--image_key", "img", "--label-keys", "a", "--hidden-key-dim=5", "--num-passes", "3", "--keyboard=us"],
        ["--out", "s3://bucket/path", "https://example.org/a?page=2", "--data=/a/b:c", "a@b.c", "k=v"],
        ["--", "-", "--a", "", "=", "--=x"],
        ["--token", "--next"],
        ["--token="],
    ],
)
def test_everything_else_stays(argv: list[str]) -> None:
    assert redact_argv(argv) == argv


def test_a_value_known_by_its_form_goes_wherever_it_stands() -> None:
    for value in ("hf_" + "a" * 34, "sk-" + "a" * 40, "ghp_" + "a" * 36, "AKIA" + "A" * 16):
        assert redact_argv(["--thing", value, f"x={value}"]) == ["--thing", HIDDEN, f"x={HIDDEN}"]


def test_environment() -> None:
    environ = {
        "HF_TOKEN": SECRET, "DB_PASSWORD": SECRET, "WANDB_API_KEY": SECRET, "PROXY": f"http://u:{SECRET}@p:1", "EMPTY_TOKEN": "",
        "PWD": "/home/me", "PATH": "/bin", "RANK": "0", "TOKENIZERS_PARALLELISM": "true",
    }  # fmt: skip
    found = redact_environ(environ)
    assert SECRET not in repr(found)
    assert found["EMPTY_TOKEN"] == ""
    assert {k: found[k] for k in ("PWD", "PATH", "RANK", "TOKENIZERS_PARALLELISM")} == {
        k: environ[k] for k in ("PWD", "PATH", "RANK", "TOKENIZERS_PARALLELISM")
    }
    assert found["PROXY"] == f"http://{HIDDEN}@p:1"


def test_extra_rules() -> None:
    assert redact_argv(["--project", "x", "--name=y"], ["^-*project$", "name"]) == ["--project", HIDDEN, f"--name={HIDDEN}"]
    assert Redactor().argv(["--project", "x"]) == ["--project", "x"]


@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_arguments_are_taken_and_redacting_twice_changes_nothing(argv: list[str]) -> None:
    once = redact_argv(argv)
    assert len(once) == len(argv)
    assert redact_argv(once) == once


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    assert redact_text(redact_text(text)) == redact_text(text)
