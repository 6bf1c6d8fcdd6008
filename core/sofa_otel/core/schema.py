"""JSON Schemas of the documents that others read, generated from the types that write them and shipped as package data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from sofa_otel.core.errors import UsageError
from sofa_otel.core.records import AnyRecord
from sofa_otel.core.report import Report
from sofa_otel.core.run import RunMeta
from sofa_otel.core.settings import Settings

DOCUMENTS: Final[Mapping[str, Any]] = {
    "sofa/report/v1": Report,
    "sofa/run/v1": RunMeta,
    "sofa/records/v1": list[AnyRecord],
    "sofa/settings/v1": Settings,
}
"""Types by the ``schema`` field of their documents."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def file_name(document: str) -> str:
    """``sofa/report/v1`` → ``report-v1.json``."""
    return "-".join(document.split("/")[1:]) + ".json"


def generate(document: str) -> dict[str, Any]:
    """The JSON Schema of a document, made from its type.

    Raises:
        UsageError: There is no such document.
    """
    if document not in DOCUMENTS:
        raise UsageError(f"there is no schema {document!r}", f"known: {', '.join(DOCUMENTS)}")
    schema = msgspec.json.schema(DOCUMENTS[document])
    return {"$schema": _DIALECT, "title": document, **schema}


@cache
def load(document: str) -> dict[str, Any]:
    """The JSON Schema of a document, as shipped.

    Raises:
        UsageError: There is no such document.
    """
    if document not in DOCUMENTS:
        raise UsageError(f"there is no schema {document!r}", f"known: {', '.join(DOCUMENTS)}")
    data = files("sofa_otel.core").joinpath("schemas", file_name(document)).read_bytes()
    return msgspec.json.decode(data, type=dict[str, Any])


def write_all(folder: Path) -> None:
    """Write every schema into ``folder`` (run ``python -m sofa_otel.core.schema`` after changing a type)."""
    folder.mkdir(parents=True, exist_ok=True)
    for document in DOCUMENTS:
        (folder / file_name(document)).write_bytes(render(document))


def render(document: str) -> bytes:
    """The bytes of a schema's file."""
    return msgspec.json.format(msgspec.json.encode(generate(document)), indent=1) + b"\n"


if __name__ == "__main__":
    write_all(Path(__file__).parent / "schemas")
