"""Call an agent over A2A's gRPC, guarded by ID tokens: `channel_factory()` is all that a2a-sdk needs."""

import asyncio

from a2a.client import ClientConfig, create_client
from a2a.client.errors import A2AClientError
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Message, Part, Role
from a2a.types import SendMessageRequest as Send
from a2a.types.a2a_pb2_grpc import add_A2AServiceServicer_to_server

from aio_authgrpc import anonymous, channel_factory, id_token, service_account
from aio_authgrpc.testing import Authority, GuardedServer

CARD = AgentCard(
    name="Greeter",
    description="Greets",
    version="1.0",
    supported_interfaces=[AgentInterface(url="later", protocol_binding="GRPC", protocol_version="1.0")],
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
    skills=[AgentSkill(id="greet", name="Greet", description="Greets", tags=["greeting"])],
)


class Greeter(AgentExecutor):
    """An agent with one answer."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer a message."""
        text = f"Hello, {context.get_user_input()}!"
        await event_queue.enqueue_event(
            Message(message_id="2", role=Role.ROLE_AGENT, parts=[Part(text=text)])
        )

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Do nothing: an answer takes no time."""


async def ask(config: ClientConfig) -> None:
    """Send a message to the agent, and print its answers."""
    question = Message(message_id="1", role=Role.ROLE_USER, parts=[Part(text="reader")])
    async with await create_client(CARD, client_config=config) as client:
        async for response in client.send_message(Send(message=question)):
            print(response.message.parts[0].text)


async def main() -> None:
    """Ask the agent with an ID token, and without."""
    agent = GrpcHandler(DefaultRequestHandler(Greeter(), InMemoryTaskStore(), CARD))
    async with (
        Authority() as authority,
        GuardedServer(authority, add_A2AServiceServicer_to_server, agent) as server,
    ):
        CARD.supported_interfaces[0].url = server.target
        account = service_account(await authority.service_account_info())
        for credentials in (id_token(credentials=account), anonymous()):
            factory = channel_factory(credentials, ssl_credentials=server.ssl_credentials)
            try:
                await ask(ClientConfig(grpc_channel_factory=factory, supported_protocol_bindings=["GRPC"]))
            except A2AClientError as error:
                print(error)
        print(f"{authority.token_requests} token request")


if __name__ == "__main__":
    asyncio.run(main())
