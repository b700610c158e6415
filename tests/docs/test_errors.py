"""The pages about errors have every class, and every text that the package explains."""

from __future__ import annotations

import pathlib
import re

import pytest

from aio_authgrpc import errors
from aio_authgrpc._channels import connection_hints
from aio_authgrpc._http import token_errors

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
CATALOGUE = (DOCS / "reference" / "error-catalogue.md").read_text()
SYMPTOMS = (DOCS / "how-to" / "troubleshooting.md").read_text()

CLASSES = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.AuthGrpcError)
]

# What stands in the first column of its tables.
TEXTS = {
    text
    for row in re.findall(r"^\| (`.*?) \| ", SYMPTOMS, re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", row)
}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_is_in_the_catalogue_with_its_code(error: type[errors.AuthGrpcError]) -> None:
    """A row says its code and whether a retry helps, and links to its section."""
    code = f"`{error.status.name}`" if issubclass(error, errors.AuthRpcError) else "–"
    link = f"[`{error.__name__}`](#{error.__name__.lower()})"
    assert f"\n| {link} | {code} | {'yes' if error.retryable else 'no'} |\n" in CATALOGUE
    assert f"\n## {error.__name__}\n" in CATALOGUE


@pytest.mark.parametrize("words", [*connection_hints._HINTS, *token_errors._HINTS])
def test_words_that_the_package_explains_are_among_the_symptoms(words: str) -> None:
    """A reader finds them with the same cause."""
    assert any(words in text for text in TEXTS)


def test_the_tree_fits_beside_the_navigation() -> None:
    """A line of 80 characters is as wide as the text of a page on a screen of 1280 pixels."""
    tree = (errors.__doc__ or "").split("```")[1]
    assert "└── WrongEventLoopError" in tree
    assert [line for line in tree.splitlines() if len(line) > 80] == []
