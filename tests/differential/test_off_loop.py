"""For every type, all HTTP is on the loop, and nothing on the loop blocks."""

from __future__ import annotations

from google.auth import identity_pool, pluggable

from .audit import watch
from .clients import Pair
from .configurations import Configuration, World


def test_every_type_keeps_sockets_on_the_loop_and_what_blocks_off_it(
    pair: Pair, each_configuration: Configuration
) -> None:
    """Also in google-auth's own threads. google-auth's own run shows that the audit detects sockets."""
    assert bool(pair.theirs.trail.sockets_off_the_loop) != each_configuration.silent
    assert pair.ours.trail.sockets_off_the_loop == []
    assert pair.ours.trail.blocking_on_the_loop == []


async def test_google_auth_on_the_loop_is_seen_to_block_it(world: World) -> None:
    """The test above can fail."""
    credentials = identity_pool.Credentials.from_info(world.infos["external_account_file"])
    with watch() as trail:
        credentials.retrieve_subject_token(None)
    assert ["open" in event for event in trail.blocking_on_the_loop] == [True]


async def test_a_process_that_google_auth_runs_on_the_loop_is_seen(world: World) -> None:
    """Its start is recorded."""
    credentials = pluggable.Credentials.from_info(world.infos["external_account_executable"])
    with watch() as trail:
        credentials.retrieve_subject_token(None)
    assert any("subprocess.Popen" in event for event in trail.blocking_on_the_loop)
