"""One refresh of a credential at a time, whichever cache, event loop or thread asks for it.

A token endpoint may answer with a new refresh token each time, and take one that comes twice for stolen
(RFC 6749, section 6; RFC 9700, 4.14.2). google-auth keeps the new one in the object that was refreshed, and
nothing there keeps two refreshes apart. Nor does a copy learn of it: `with_quota_project()` makes one, each
impersonation holds one, and a file that is read again has the first refresh token.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from aio_authgrpc._sources.credential_lock import CredentialLock
from aio_authgrpc._sources.google_auth_gaps import is_of

# Refresh tokens that were replaced: those of a month, where one login gets a new one every hour.
_MOST_REPLACED = 1_000


class _Newest:
    """The refresh token that a login was given last; one object for all of its refresh tokens."""

    refresh_token = ""


class _Refresh:
    """A refresh that is under way: its login, the refresh token that was sent, and the last that is noted."""

    def __init__(self, root: object, sent: str) -> None:
        self.root = root
        self.sent = sent
        self.noted = sent


# A login by the digest of its refresh token. Others by `id`: an object may have an equality of its own.
_locks: WeakValueDictionary[int | bytes, CredentialLock] = WeakValueDictionary()
_replaced: OrderedDict[bytes, _Newest] = OrderedDict()
# google-auth puts the new refresh token into the login long before the refresh is over, where an
# impersonation follows.
_under_way: dict[_Refresh, None] = {}
_guard = threading.RLock()


def lock_of(credentials: object) -> CredentialLock:
    """Return the lock for all that touches a credential. It is forgotten when no one holds it or waits."""
    root = root_of(credentials)
    with _guard:
        _note_what_came()
        refresh_token = _newest_of(root)
        key = id(root) if refresh_token is None else _digest(root, refresh_token)
        lock = _locks.get(key)
        if lock is None:
            lock = _locks[key] = CredentialLock(root)
        return lock


def root_of(credentials: object) -> object:
    """Return the credential that a refresh refreshes first: the login below an impersonation, say."""
    signer = getattr(credentials, "_signer", None)
    below = [
        getattr(credentials, "_source_credentials", None),
        getattr(credentials, "_target_credentials", None),
        getattr(signer, "_credentials", None) if is_of(signer, "google.auth.iam", "Signer") else None,
    ]
    inner = next((found for found in below if is_of(found, "google.auth.credentials")), None)
    return credentials if inner is None or inner is credentials else root_of(inner)


@contextmanager
def newest_refresh_token(credentials: object) -> Generator[None]:
    """Give a login the refresh token that came last, and note the one that comes. Needs its lock."""
    root: Any = root_of(credentials)
    with _guard:
        _note_what_came()
        sent = _newest_of(root)
        if sent != _refresh_token_of(root):
            root._refresh_token = sent  # no public name
        refresh = _Refresh(root, sent or "")
        _under_way[refresh] = None
    try:
        yield
    finally:  # what comes after the login's refresh, such as an impersonation, may have failed
        with _guard:
            _note_what_came()
            _under_way.pop(refresh, None)  # a forked child has cleared it


def _note_what_came() -> None:
    """Note the refresh tokens that have come for the logins that are being refreshed. Needs the guard."""
    for refresh in tuple(_under_way):  # the garbage collector may end one in this very thread
        came = _refresh_token_of(refresh.root)
        if refresh.sent and came is not None and came != refresh.noted:  # it may be replaced by now
            refresh.noted = came
            _replace(_digest(refresh.root, refresh.sent), _digest(refresh.root, came), came)


def _replace(sent: bytes, came: bytes, refresh_token: str) -> None:
    newest = _replaced.setdefault(sent, _Newest())
    newest.refresh_token = refresh_token
    _replaced[came] = newest
    while len(_replaced) > _MOST_REPLACED:
        _replaced.popitem(last=False)
    lock = _locks.get(sent)
    if lock is not None:
        _locks[came] = lock


def _newest_of(root: object) -> str | None:
    own = _refresh_token_of(root)
    newest = None if own is None else _replaced.get(_digest(root, own))
    return own if newest is None else newest.refresh_token


def _refresh_token_of(root: object) -> str | None:
    """Return the refresh token of google-auth's credentials of a user; None for any other credential."""
    found: object = getattr(root, "_refresh_token", None)
    return found if isinstance(found, str) and found else None


def _digest(root: Any, refresh_token: str) -> bytes:
    endpoint = getattr(root, "_token_uri", None) or getattr(root, "_token_url", None)
    login = (endpoint, getattr(root, "_client_id", None), refresh_token)
    return hashlib.sha256(repr(login).encode()).digest()


def _in_child() -> None:
    global _guard  # noqa: PLW0603 - another thread of the parent may have had it
    _guard = threading.RLock()
    _under_way.clear()  # the threads that refresh them stayed with the parent
    for lock in tuple(_locks.values()):
        lock.reset()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
