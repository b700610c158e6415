"""google-auth's HTTP transport over aiohttp."""
