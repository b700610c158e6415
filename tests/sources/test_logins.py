"""Whose lock a credential has, and which refresh token a login."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
from collections.abc import Iterator
from typing import Any

import google.auth.credentials
import google.auth.downscoped
import google.auth.iam
import google.auth.impersonated_credentials
import google.oauth2.credentials
import google.oauth2.service_account
import pytest

from aio_authgrpc._sources import logins
from aio_authgrpc._sources.id_token_credentials import UserIdTokenCredentials
from aio_authgrpc._sources.logins import lock_of, newest_refresh_token, root_of
from aio_authgrpc.testing import Authority


@pytest.fixture(autouse=True)
def no_login_of_another_test() -> Iterator[None]:
    logins._replaced.clear()
    yield
    logins._replaced.clear()


def test_an_object_has_one_lock_while_someone_has_it() -> None:
    """It is forgotten then, and so is the object."""
    owner, other = object(), object()
    lock = lock_of(owner)
    assert lock_of(owner) is lock
    assert lock_of(other) is not lock
    del lock
    gc.collect()
    assert id(owner) not in logins._locks


def test_equal_objects_have_locks_of_their_own() -> None:
    """A credential of a user's own may have an equality, and no hash."""

    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]  # how Python says unhashable

    one, other = Equal(), Equal()
    assert lock_of(one) is not lock_of(other)


def test_a_forked_child_has_free_locks() -> None:
    """Who had them stayed with the parent, as did the thread that had a guard."""
    owner = object()
    lock = lock_of(owner)
    held = threading.Thread(target=lock._guard.acquire)
    held.start()
    held.join()
    logins._in_child()

    async def hold() -> None:
        async with lock_of(owner).held():
            logins._in_child()
            async with lock_of(owner).held():
                pass

    asyncio.run(hold())
    assert lock_of(owner) is lock


def user() -> Any:
    return google.oauth2.credentials.Credentials(None, refresh_token="r", token_uri="http://127.0.0.1:1")


def impersonated(source: Any) -> Any:
    return google.auth.impersonated_credentials.Credentials(source, "other@example.com", ["scope"])


def by_iam(source: Any, authority: Authority) -> Any:
    signer = google.auth.iam.Signer(lambda: None, source, "me@example.com")
    return google.oauth2.service_account.Credentials(signer, "me@example.com", authority.token_uri)


@pytest.mark.parametrize(
    "over",
    [
        pytest.param(lambda login: login, id="itself"),
        pytest.param(impersonated, id="impersonated"),
        pytest.param(lambda login: impersonated(impersonated(login)), id="impersonated-twice"),
        pytest.param(
            lambda login: google.auth.impersonated_credentials.IDTokenCredentials(
                impersonated(login), "https://audience"
            ),
            id="impersonated-id-token",
        ),
        pytest.param(
            lambda login: google.auth.downscoped.Credentials(
                login, google.auth.downscoped.CredentialAccessBoundary()
            ),
            id="downscoped",
        ),
        pytest.param(lambda login: UserIdTokenCredentials(login, None), id="id-token"),
    ],
)
def test_a_credential_over_a_login_has_the_lock_of_the_login(over: Any) -> None:
    """Its refresh refreshes the login first, or a copy of it that google-auth made."""
    login = user()
    lock = lock_of(login)
    assert lock_of(over(login)) is lock


def test_logins_with_different_refresh_tokens_have_locks_of_their_own() -> None:
    """Two users of one client."""
    one, other = user(), user()
    other._refresh_token = "another"
    lock = lock_of(one)
    assert lock_of(other) is not lock


async def test_a_credential_whose_signer_is_a_login_has_the_lock_of_the_login(authority: Authority) -> None:
    """The IAM API signs, and is asked with the login's token."""
    login = user()
    assert root_of(by_iam(login, authority)) is login


def test_an_attribute_of_another_kind_is_no_credential() -> None:
    """A user's class may have such a name for something else, or for itself."""

    class Own(google.auth.credentials.Credentials):  # type: ignore[misc]  # untyped upstream
        def refresh(self, request: Any) -> None: ...

    own: Any = Own()
    own._source_credentials, own._signer = "text", own
    assert root_of(own) is own
    own._source_credentials = own
    assert root_of(own) is own


# Refresh tokens


def rotate(login: Any, refresh_token: str) -> None:
    with newest_refresh_token(login):
        login._refresh_token = refresh_token


def test_a_copy_gets_the_refresh_token_that_came_last() -> None:
    """Not the one that came when it was made."""
    login = user()
    copies = [copy.copy(login) for _ in range(2)]
    rotate(login, "second")
    rotate(copies[0], "third")
    for each in (login, *copies):
        with newest_refresh_token(each):
            assert each.refresh_token == "third"


def test_a_refresh_token_that_came_before_a_failure_is_noted() -> None:
    """The login was refreshed; what it impersonates was not."""
    login = user()
    over = impersonated(login)
    with pytest.raises(ZeroDivisionError), newest_refresh_token(over):
        over._source_credentials._refresh_token = "second"
        raise ZeroDivisionError
    with newest_refresh_token(login):
        assert login.refresh_token == "second"


def test_the_lock_is_the_same_while_the_refresh_token_is_replaced() -> None:
    """A copy that comes meanwhile waits, whether it has the old refresh token or the new one."""
    login = user()
    lock, old = lock_of(login), copy.copy(login)
    rotate(login, "second")
    assert lock_of(login) is lock
    assert lock_of(old) is lock


def test_the_lock_is_the_same_before_a_new_refresh_token_is_noted() -> None:
    """Another thread may ask for it where google-auth has put the new one into the object."""
    login = user()
    lock = lock_of(login)
    with newest_refresh_token(login):
        login._refresh_token = "second"
        assert lock_of(login) is lock
    assert lock_of(login) is lock


def test_a_copy_that_is_made_during_a_refresh_has_the_lock_and_the_token_that_came() -> None:
    """The login has its new refresh token while an impersonation is still under way."""
    over = impersonated(user())
    login = over._source_credentials
    lock = lock_of(over)
    with newest_refresh_token(over):
        login._refresh_token = "second"
        made = copy.copy(login)
        assert lock_of(made) is lock
        rotate(made, "third")  # had a thread that hangs been passed
    for each in (login, made):
        assert lock_of(each) is lock
        with newest_refresh_token(each):
            assert each.refresh_token == "third"


def test_a_login_is_not_held_after_its_refresh() -> None:
    """Also where it failed, and where two threads are inside because one of them hung."""
    login = user()
    with pytest.raises(ZeroDivisionError), newest_refresh_token(login), newest_refresh_token(login):
        raise ZeroDivisionError
    assert [refresh for refresh in logins._under_way if refresh.root is login] == []


def test_a_refresh_token_that_comes_back_is_the_newest() -> None:
    """No provider is known that gives an old one again; the last word is its own all the same."""
    login = user()
    first = copy.copy(login)
    rotate(login, "second")
    rotate(login, "r")
    for each in (login, first):
        with newest_refresh_token(each):
            assert each.refresh_token == "r"


def test_a_credential_without_a_refresh_token_is_left_alone() -> None:
    """A service account has none."""
    own: Any = google.auth.credentials.AnonymousCredentials()
    with newest_refresh_token(own):
        pass
    assert not hasattr(own, "_refresh_token")
    assert logins._replaced == {}


def test_old_refresh_tokens_are_forgotten() -> None:
    """The oldest first; that of a login that is in use stays."""
    login = user()
    first = copy.copy(login)
    for number in range(logins._MOST_REPLACED):
        rotate(login, str(number))
    assert len(logins._replaced) == logins._MOST_REPLACED
    with newest_refresh_token(first):
        assert first.refresh_token == "r"
    last = copy.copy(login)
    rotate(login, "last")
    with newest_refresh_token(last):
        assert last.refresh_token == "last"


def test_a_refresh_token_is_kept_out_of_sight() -> None:
    """Those that were replaced are digests, and the newest has a `repr` of its own."""
    login = user()
    rotate(login, "1//a-refresh-token")
    assert "1//a-refresh-token" not in repr(logins._replaced)
