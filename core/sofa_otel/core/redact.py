"""Redaction by rule: arguments and environment variables lose what looks like a secret before anything is stored or sent.

A name decides (``--api-key``, ``DB_PASSWORD``), and so does the form of a value (user information in a URL, tokens with a known
prefix). Names stay, values go, so that a person still sees what was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

HIDDEN: Final = "***"

_TELLING: Final = (
    r"pass(?:w(?:or)?d|phrase)?|pwd|passwd|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|(?:^|[-_.])key$|"
    r"(?:[a-z0-9]key)$|credential|cred(?:s)?$|auth(?:orization)?(?:$|[-_.])|bearer|cookie|session(?:[-_.]?id)?$|dsn$|"
    r"connection[-_.]?string|signature|(?:^|[-_.])sas(?:$|[-_.])|netrc|kubeconfig"
)
_HARMLESS: Final = re.compile(
    # What training code calls a key or a token without meaning a secret.
    r"(?:max|min|num|n|total|per|pad|eos|bos|unk|mask|special|target|global|micro)[-_.]?(?:new[-_.]?)?tokens?(?:$|[-_.])|"
    r"tokens?[-_.](?:per|count|len|length|limit|id|ids|type|types|batch|budget)|tokenizer|tokeniz|"
    r"(?:sort|primary|foreign|dict|group|batch|image|label|text|data|feature|json|sample|rng|metric|column)[-_.]?keys?$|"
    r"keyboard|keyword|keyframe|keypoint|passes$|passthrough|bypass",
    re.IGNORECASE,
)
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*://)([^/\s@\"']+)@", re.IGNORECASE)
_QUERY: Final = re.compile(r"([?&;]([^=&;\s]+)=)([^&;\s\"']+)")
_PAIR: Final = re.compile(r"(^|[\s,;{(\[\"'])([A-Za-z0-9_.-]+)([\"'\]]*\s*[=:]\s*\"?)(\"[^\"]*\"|'[^']*'|[^\s,;\"'}]+)")
_FORM: Final = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{10,}|"
    r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|AIza[\w-]{35}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|wandb_v1_\w{20,})"
)
_HEADER: Final = re.compile(r"\b((?:proxy-)?authorization\s*:\s*|bearer\s+|basic\s+)\S.*", re.IGNORECASE)


class Redactor:
    """Rules, compiled once.

    Args:
        extra: Regular expressions of further names whose values are hidden.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._extra = re.compile("|".join(f"(?:{pattern})" for pattern in extra) or r"(?!)", re.IGNORECASE)
        self._secret = re.compile(_TELLING, re.IGNORECASE)

    def telling(self, name: str) -> bool:
        """Whether values under this name are hidden."""
        if self._extra.search(name):
            return True
        if name in ("PWD", "OLDPWD"):
            return False  # the shell's working directory
        return self._secret.search(name) is not None and _HARMLESS.search(name) is None

    def argv(self, argv: Sequence[str]) -> list[str]:
        """A command line without secrets, word for word."""
        out: list[str] = []
        hide = False
        for word in argv:
            if hide and not word.startswith("-"):
                out.append(HIDDEN)
                hide = False
                continue
            name, equals, value = word.partition("=")
            option = re.fullmatch(r"-{1,2}[A-Za-z0-9_.-]+", name) is not None
            plain = re.fullmatch(r"[+~]{0,2}[A-Za-z_][A-Za-z0-9_.+-]*", name) is not None
            if equals and (option or plain) and self.telling(name):
                out.append(f"{name}={HIDDEN}" if value else word)
            else:
                out.append(self.text(word) if not option or equals else word)
            hide = option and not equals and self.telling(name)
        return out

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """An environment without secrets."""
        return {name: HIDDEN if value and self.telling(name) else self.text(value) for name, value in environ.items()}

    def text(self, text: str) -> str:
        """Any text (a script given with ``-c``, a log line, a URL) without secrets."""
        text = _URL.sub(rf"\g<1>{HIDDEN}@", text)
        text = _QUERY.sub(lambda m: m[1] + (HIDDEN if self.telling(m[2]) else m[3]), text)
        text = _HEADER.sub(rf"\g<1>{HIDDEN}", text)
        text = _PAIR.sub(self._pair, text)
        return _FORM.sub(HIDDEN, text)

    def _pair(self, match: re.Match[str]) -> str:
        if not self.telling(match[2]) or match[4].startswith("//"):
            return match[0]
        return f"{match[1]}{match[2]}{match[3]}{HIDDEN}"


def redact_argv(argv: Sequence[str], extra: Iterable[str] = ()) -> list[str]:
    """A command line without secrets.

    Args:
        extra: Regular expressions of further names whose values are hidden.
    """
    return Redactor(extra).argv(argv)


def redact_environ(environ: Mapping[str, str], extra: Iterable[str] = ()) -> dict[str, str]:
    """An environment without secrets."""
    return Redactor(extra).environ(environ)


def redact_text(text: str, extra: Iterable[str] = ()) -> str:
    """A text without secrets."""
    return Redactor(extra).text(text)
