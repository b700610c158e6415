"""Bring your own tokens: a coroutine function, and a class that asks an endpoint over HTTP."""

import asyncio
import json
import urllib.parse

from aio_authgrpc import Token, TokenRequest, connect, token_source
from aio_authgrpc.bookstore import BookstoreStub, Empty
from aio_authgrpc.errors import TokenUnavailableError
from aio_authgrpc.testing import Authority, BookstoreServer


class RefreshTokenSource:
    """A `TokenSource`: any object with a coroutine method `fetch` is one."""

    def __init__(self, info: dict[str, str]) -> None:
        self._token_uri = info["token_uri"]
        self._form = {
            "grant_type": "refresh_token",
            **{name: info[name] for name in ("client_id", "client_secret", "refresh_token")},
        }

    async def fetch(self, request: TokenRequest) -> Token:
        """Exchange the refresh token, over the connection's own HTTP session."""
        response = await request.http.send(
            self._token_uri,
            "POST",
            urllib.parse.urlencode(self._form),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        if response.status != 200:
            raise TokenUnavailableError(f"The token endpoint answered {response.status}.")
        answer = json.loads(response.data)
        return Token(answer["access_token"], expires_at=request.time + answer["expires_in"])


async def main() -> None:
    """Call the Bookstore once with each."""
    async with Authority() as authority, BookstoreServer(authority) as server:

        async def from_the_vault() -> str:
            return authority.issue_access_token()

        sources = {
            "a coroutine function": token_source(from_the_vault),
            "a class": RefreshTokenSource(authority.user_info()),
        }
        for name, source in sources.items():
            async with connect(
                server.target, BookstoreStub, credentials=source, ssl_credentials=server.ssl_credentials
            ) as bookstore:
                answer = await bookstore.ListShelves(Empty(), timeout=10)
                print(f"{name}: {len(answer.shelves)} shelves")


if __name__ == "__main__":
    asyncio.run(main())
