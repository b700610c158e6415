"""`token`, `jwt` and `explain`, as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import pty
from pathlib import Path

import jwt as pyjwt
import pytest

from aio_authgrpc.cli.claims import claims_of, lifetime, with_dates
from aio_authgrpc.testing import Authority, GoogleCloud

from .command import COMMAND, environment, run

pytestmark = pytest.mark.timeout(90)

EMAIL = "tester@project.iam.gserviceaccount.com"
AUDIENCE = "https://bookstore-xyz.a.run.app"


@pytest.fixture
async def key_file(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(await authority.service_account_info()))
    return path


def claims(token: str) -> dict[str, object]:
    return dict(pyjwt.decode(token, options={"verify_signature": False}))


async def test_token_without_audience_is_an_access_token(key_file: Path) -> None:
    """A pipe gets the token alone, with the scopes that were asked for."""
    done = await run("token", "--credentials", str(key_file), "--scopes", "https://a,https://b")
    assert (done.code, done.err) == (0, "")
    assert claims(done.out.strip())["scope"] == "https://a https://b"


async def test_token_with_an_audience_is_an_id_token(key_file: Path) -> None:
    """It is for that audience."""
    done = await run("token", "--credentials", str(key_file), "--audience", AUDIENCE)
    assert (done.code, done.err) == (0, "")
    assert claims(done.out.strip())["aud"] == AUDIENCE


async def test_token_of_the_environments_variable_needs_no_option(key_file: Path) -> None:
    """Application Default Credentials are used."""
    done = await run("token", GOOGLE_APPLICATION_CREDENTIALS=str(key_file))
    assert claims(done.out.strip())["email"] == EMAIL


async def test_decoded_token_shows_claims_and_no_signature(key_file: Path) -> None:
    """The claims are JSON; no part of the token itself is printed."""
    done = await run("token", "--credentials", str(key_file), "--audience", AUDIENCE, "--decode")
    assert done.json["aud"] == AUDIENCE
    assert done.json["email"] == EMAIL
    assert "eyJ" not in done.out


@pytest.mark.parametrize(("option", "expected"), [("--audience", "aud"), ("--scopes", "scope")])
async def test_impersonated_token_is_of_the_other_account(
    google_cloud: GoogleCloud, tmp_path: Path, option: str, expected: str
) -> None:
    """An ID token, and an access token."""
    other = "other@project.iam.gserviceaccount.com"
    await google_cloud.authority.service_account_info(other)
    path = tmp_path / "key.json"
    path.write_text(json.dumps(await google_cloud.service_account_info()))
    done = await run("token", "--credentials", str(path), "--impersonate", other, option, "https://x")
    found = claims(done.out.strip())
    assert found["email"] == other
    assert found[expected] == "https://x"


async def test_token_without_credentials_exits_with_2_and_says_what_to_do() -> None:
    """Two lines on stderr, in the words of the command line."""
    done = await run("token")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: credentials: no default credentials were found.")
    assert "pass --credentials FILE." in done.err


async def test_refused_token_exits_with_the_code_of_unauthenticated(
    authority: Authority, key_file: Path
) -> None:
    """64 and gRPC's number; the account was deleted."""
    authority.revoke(EMAIL)
    done = await run("token", "--credentials", str(key_file))
    assert (done.code, done.out) == (64 + 16, "")
    assert done.err.startswith("error: UNAUTHENTICATED: ")
    assert "hint: " in done.err


@pytest.mark.parametrize(
    "arguments", [["--type", "id"], ["--audience", "https://x", "--scopes", "y"], ["--type", "none"]]
)
async def test_token_that_cannot_be_is_refused_before_it_is_asked_for(arguments: list[str]) -> None:
    """An ID token needs an audience, and has no scopes."""
    done = await run("token", *arguments)
    assert (done.code, done.out) == (2, "")


async def test_terminal_is_told_the_lifetime(key_file: Path) -> None:
    """The token is on a line of its own, its lifetime on the next."""
    main, other = pty.openpty()
    with os.fdopen(main, "rb", buffering=0) as terminal:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "jwt", str(key_file), "--audiences", "x", stdout=other, stderr=other, env=environment()
        )
        os.close(other)
        assert await process.wait() == 0
        token, told = terminal.read(65536).decode().splitlines()[:2]
    assert claims(token)["aud"] == "x"
    assert "expires in 59 min" in told or "expires in 60 min" in told


# jwt


async def test_jwt_has_the_claims_of_the_tutorials_generator(key_file: Path) -> None:
    """iat, exp an hour later, aud, iss, sub and email; nothing is requested."""
    arguments = ["--audiences", "bookstore", "--issuer", "me", "--subject", "12345678", "--email", "e@x"]
    done = await run("jwt", str(key_file), *arguments)
    found = claims(done.out.strip())
    assert int(str(found.pop("exp"))) - int(str(found.pop("iat"))) == 3600
    assert found == {"aud": "bookstore", "iss": "me", "sub": "12345678", "email": "e@x"}


async def test_jwt_names_the_key_that_signed_it(key_file: Path) -> None:
    """`kid` is that of the file."""
    done = await run("jwt", str(key_file), "--audiences", "bookstore")
    header = pyjwt.get_unverified_header(done.out.strip())
    assert header["kid"] == json.loads(key_file.read_text())["private_key_id"]


async def test_jwt_of_a_file_that_is_no_key_exits_with_2(tmp_path: Path) -> None:
    """The error names the field of the file."""
    path = tmp_path / "key.json"
    path.write_text("{}")
    done = await run("jwt", str(path), "--audiences", "bookstore")
    assert (done.code, done.out) == (2, "")
    assert "type" in done.err


# explain


async def test_explain_tells_the_file_that_is_used(key_file: Path) -> None:
    """Its type, and where it was found. No token is fetched."""
    done = await run("explain", "--json", GOOGLE_APPLICATION_CREDENTIALS=str(key_file))
    assert done.code == 0
    place = f"GOOGLE_APPLICATION_CREDENTIALS={key_file}"
    assert done.json == {
        "found": "service_account",
        "tried": [{"place": place, "outcome": "service_account"}],
        "problem": None,
    }


async def test_explain_without_credentials_lists_what_was_tried_and_exits_with_1() -> None:
    """A line for each place."""
    done = await run("explain")
    assert done.code == 1
    assert [line.partition(":")[0] for line in done.out.splitlines()] == [
        "not here GOOGLE_APPLICATION_CREDENTIALS",
        "not here gcloud's /nonexistent/application_default_credentials.json",
        "not here metadata server",
    ]


async def test_explain_without_credentials_tells_programs_what_to_do() -> None:
    """In the words of the command line."""
    done = await run("explain", "--json")
    assert (done.code, done.json["found"]) == (1, None)
    assert "pass --credentials FILE" in done.json["problem"]


# Claims


def test_an_opaque_token_has_no_claims() -> None:
    """Neither has a JWT whose payload is not an object."""
    assert claims_of("ya29.abc") is None
    assert claims_of("a.b.c") is None
    assert claims_of(f"h.{'W10'}.s") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(61, "expires in 1 min 01 s"), (5, "expires in 5 s"), (-3, "expired 3 s ago")]
)
def test_a_lifetime_is_told_in_words(seconds: float, text: str) -> None:
    """Also of a token whose end has passed."""
    assert lifetime(seconds) == text


def test_instants_are_shown_as_dates() -> None:
    """Beside the number that the token has; other numbers, and what is no date, stay as they are."""
    claims = {"exp": 1_795_780_490, "iat": 10**30, "level": 3}
    assert with_dates(claims) == {**claims, "exp": "1795780490 (2026-11-27 11:54:50 UTC)"}
