"""Cloud Run to Cloud Run on behalf of a user: each call carries the service's ID token, and the user's.

The front service is a FastAPI application. The back service lets the front service in by its token in
`x-serverless-authorization`, as Cloud Run does, and reads the user's from `authorization`.
"""

import asyncio
import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI

from aio_authgrpc import anonymous, id_token
from aio_authgrpc.bookstore import BookstoreServicer, BookstoreStub, Empty, ListShelvesResponse, Shelf
from aio_authgrpc.bookstore import add_BookstoreServicer_to_server as add_to_server
from aio_authgrpc.fastapi import Grpc, app_client, handle_grpc_errors
from aio_authgrpc.testing import Authority, GuardedServer, MetadataServer, endpoint_user_info

BACK, FRONT = "https://back-xyz.a.run.app", "https://front-xyz.a.run.app"

# Nothing in `authorization` but the user's token.
CREDENTIALS = {"x-serverless-authorization": id_token(BACK), "authorization": anonymous()}
back = Grpc("back-xyz.a.run.app", BookstoreStub, credentials=CREDENTIALS)
front = FastAPI(lifespan=back.lifespan)
handle_grpc_errors(front)


@front.get("/shelves")
async def list_shelves(stub: Annotated[BookstoreStub, Depends(back.on_behalf_of_caller)]) -> list[str]:
    """Ask the back service as the user whose request this is."""
    answer = await stub.ListShelves(Empty(), timeout=10)
    return [shelf.theme for shelf in answer.shelves]


class Back(BookstoreServicer):
    """Has a shelf for each user."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def ListShelves(self, request: Empty, context: Any) -> ListShelvesResponse:  # noqa: N802 - the RPC's
        """Check the user's token, too; the guard has checked the service's."""
        service: Any = endpoint_user_info()
        token = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        user = self._authority.claims_of(token)["email"]
        return ListShelvesResponse(shelves=[Shelf(theme=f"for {user}, by way of {service['email']}")])


async def main() -> None:
    """Be two users, and somebody without a token."""
    async with (
        Authority() as authority,
        MetadataServer(authority, email="front@project.iam.gserviceaccount.com") as metadata,
        GuardedServer(
            authority, add_to_server, Back(authority), audience=BACK, header="x-serverless-authorization"
        ) as server,
    ):
        # Cloud Run's environment: only the metadata server names an identity.
        os.environ.update(GCE_METADATA_IP=metadata.host, GCE_METADATA_HOST=metadata.host)
        os.environ.update(GOOGLE_APPLICATION_CREDENTIALS="", CLOUDSDK_CONFIG="/nowhere")
        connection = server.connect(BookstoreStub, credentials=CREDENTIALS)
        async with app_client(front, {back: connection}) as client:
            for user in ("ann@example.com", "bob@example.com"):
                token = authority.issue_id_token(audience=FRONT, email=user)
                response = await client.get("/shelves", headers={"Authorization": f"Bearer {token}"})
                print(response.status_code, *response.json())
            print((await client.get("/shelves")).status_code, "without a user")


if __name__ == "__main__":
    asyncio.run(main())
