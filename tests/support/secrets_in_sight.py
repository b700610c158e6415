"""Secrets in log records, in the `repr` and `str` of objects, and in exceptions with all their causes."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

from aio_authgrpc._checks.secrets import redacted
from aio_authgrpc._http.token_errors import chain_of


class Records(logging.Handler):
    """Keeps the text of every log record.

    Attributes:
        texts: What was logged, in order, with the arguments.
    """

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.texts.append(self.format(record) + repr(record.args))


def secrets_in_sight(texts: list[str]) -> list[str]:
    """Return those of `texts`, and of the texts of all objects that are not frozen, that show a secret."""
    texts = texts + [text for thing in gc.get_objects() for text in _shown_by(thing)]
    gc.collect()
    others = [thing for thing in gc.get_objects() if isinstance(thing, BaseException)]
    texts += [text for thing in others for text in (repr(thing), str(thing))]
    return [text for text in texts if redacted(text) != text]


def _shown_by(thing: object) -> Iterator[str]:
    module = str(type(thing).__module__)  # some extension types have a property there
    if module.startswith("aio_authgrpc") and not module.startswith("aio_authgrpc.testing"):
        links = chain_of(thing) if isinstance(thing, BaseException) else [thing]
        for link in links:
            yield from (repr(link), str(link))
