"""The google-cloud clients that are tried, with RPCs of every kind, and what each of them has to return."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud import _storage_v2 as storage_v2
from google.cloud import (
    bigtable_v2,
    datastore_v1,
    firestore_v1,
    monitoring_v3,
    secretmanager_v1,
    spanner_v1,
    speech_v1,
)
from google.cloud.datastore_v1.services.datastore import DatastoreAsyncClient
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1 import types as pubsub

from .fake_cloud import Rpc


@dataclass(frozen=True, kw_only=True)
class Use:
    """An RPC as a user writes it.

    Attributes:
        client: The client's class.
        rpcs: What the server has for it.
        run: Makes the RPC with a client, and what else its method takes; returns what it says.
        says: What it has to return.
    """

    client: Any
    rpcs: Sequence[Rpc]
    run: Callable[..., Awaitable[object]]
    says: object

    @property
    def name(self) -> str:
        return f"{self.client.__name__}.{self.rpcs[0].path.rpartition('/')[2]}"


async def stream(*requests: Any) -> AsyncIterator[Any]:
    """Send requests, as a user's generator does."""
    for request in requests:
        yield request


# Datastore


async def look_up(client: Any, **how: Any) -> object:
    key = datastore_v1.Key(path=[datastore_v1.Key.PathElement(kind="Book", name="REAMDE")])
    response = await client.lookup(project_id="shelf", keys=[key], **how)
    return [element.name for found in response.missing for element in found.entity.key.path]


LOOKUP = Use(
    client=DatastoreAsyncClient,
    rpcs=[
        Rpc(
            path="/google.datastore.v1.Datastore/Lookup",
            request=datastore_v1.LookupRequest,
            response=datastore_v1.LookupResponse,
            answer=lambda requests: [
                datastore_v1.LookupResponse(
                    missing=[{"entity": {"key": key}} for request in requests for key in request.keys]
                )
            ],
        )
    ],
    run=look_up,
    says=["REAMDE"],
)

# Secret Manager


async def access(client: Any, **how: Any) -> object:
    response = await client.access_secret_version(name="projects/p/secrets/s/versions/latest", **how)
    return response.payload.data


ACCESS = Use(
    client=secretmanager_v1.SecretManagerServiceAsyncClient,
    rpcs=[
        Rpc(
            path="/google.cloud.secretmanager.v1.SecretManagerService/AccessSecretVersion",
            request=secretmanager_v1.AccessSecretVersionRequest,
            response=secretmanager_v1.AccessSecretVersionResponse,
            answer=lambda requests: [
                secretmanager_v1.AccessSecretVersionResponse(
                    name=requests[0].name, payload={"data": b"the payload"}
                )
            ],
        )
    ],
    run=access,
    says=b"the payload",
)


async def list_two_pages(client: Any, **how: Any) -> object:
    return [secret.name async for secret in await client.list_secrets(parent="projects/p", **how)]


def page(requests: Sequence[Any]) -> Sequence[Any]:
    response = secretmanager_v1.ListSecretsResponse
    if requests[0].page_token:
        return [response(secrets=[{"name": "second"}])]
    return [response(secrets=[{"name": "first"}], next_page_token="next")]


LIST = Use(
    client=secretmanager_v1.SecretManagerServiceAsyncClient,
    rpcs=[
        Rpc(
            path="/google.cloud.secretmanager.v1.SecretManagerService/ListSecrets",
            request=secretmanager_v1.ListSecretsRequest,
            response=secretmanager_v1.ListSecretsResponse,
            answer=page,
        )
    ],
    run=list_two_pages,
    says=["first", "second"],
)

# Pub/Sub


async def publish(client: Any, **how: Any) -> object:
    message = pubsub.PubsubMessage(data=b"x")
    response = await client.publish(topic="projects/p/topics/t", messages=[message], **how)
    return list(response.message_ids)


PUBLISH = Use(
    client=PublisherAsyncClient,
    rpcs=[
        Rpc(
            path="/google.pubsub.v1.Publisher/Publish",
            request=pubsub.PublishRequest,
            response=pubsub.PublishResponse,
            answer=lambda requests: [
                pubsub.PublishResponse(message_ids=[m.data.decode() for m in requests[0].messages])
            ],
        )
    ],
    run=publish,
    says=["x"],
)


async def pull(client: Any, **how: Any) -> object:
    first = pubsub.StreamingPullRequest(subscription="projects/p/subscriptions/s")
    responses = await client.streaming_pull(requests=stream(first, pubsub.StreamingPullRequest()), **how)
    return [message.ack_id async for response in responses for message in response.received_messages]


PULL = Use(
    client=SubscriberAsyncClient,
    rpcs=[
        Rpc(
            path="/google.pubsub.v1.Subscriber/StreamingPull",
            arity="stream_stream",
            request=pubsub.StreamingPullRequest,
            response=pubsub.StreamingPullResponse,
            answer=lambda requests: [
                pubsub.StreamingPullResponse(received_messages=[{"ack_id": requests[0].subscription or "on"}])
            ],
        )
    ],
    run=pull,
    says=["projects/p/subscriptions/s", "on"],
)

# Firestore


async def get_document(client: Any, **how: Any) -> object:
    return (await client.get_document({"name": "a/document"}, **how)).name


GET_DOCUMENT = Use(
    client=FirestoreAsyncClient,
    rpcs=[
        Rpc(
            path="/google.firestore.v1.Firestore/GetDocument",
            request=firestore_v1.types.GetDocumentRequest,
            response=firestore_v1.types.Document,
            answer=lambda requests: [firestore_v1.types.Document(name=requests[0].name)],
        )
    ],
    run=get_document,
    says="a/document",
)


async def run_query(client: Any, **how: Any) -> object:
    responses = await client.run_query({"parent": "projects/p/databases/d/documents"}, **how)
    return [response.document.name async for response in responses]


RUN_QUERY = Use(
    client=FirestoreAsyncClient,
    rpcs=[
        Rpc(
            path="/google.firestore.v1.Firestore/RunQuery",
            arity="unary_stream",
            request=firestore_v1.types.RunQueryRequest,
            response=firestore_v1.types.RunQueryResponse,
            answer=lambda _: [
                firestore_v1.types.RunQueryResponse(document={"name": name}) for name in ("one", "two")
            ],
        )
    ],
    run=run_query,
    says=["one", "two"],
)


async def listen(client: Any, **how: Any) -> object:
    request = firestore_v1.types.ListenRequest(database="projects/p/databases/d")
    return [
        response.document_change.document.name
        async for response in await client.listen(requests=stream(request), **how)
    ]


LISTEN = Use(
    client=FirestoreAsyncClient,
    rpcs=[
        Rpc(
            path="/google.firestore.v1.Firestore/Listen",
            arity="stream_stream",
            request=firestore_v1.types.ListenRequest,
            response=firestore_v1.types.ListenResponse,
            answer=lambda requests: [
                firestore_v1.types.ListenResponse(
                    document_change={"document": {"name": requests[0].database}}
                )
            ],
        )
    ],
    run=listen,
    says=["projects/p/databases/d"],
)

# Bigtable


async def read_rows(client: Any, **how: Any) -> object:
    responses = await client.read_rows(table_name="projects/p/instances/i/tables/t", **how)
    return [chunk.row_key async for response in responses for chunk in response.chunks]


def row(_: Sequence[Any]) -> Sequence[Any]:
    chunk = {
        "row_key": b"key",
        "family_name": "family",
        "qualifier": b"column",
        "value": b"value",
        "commit_row": True,
    }
    return [bigtable_v2.ReadRowsResponse(chunks=[chunk])]


READ_ROWS = Use(
    client=bigtable_v2.BigtableAsyncClient,
    rpcs=[
        Rpc(
            path="/google.bigtable.v2.Bigtable/ReadRows",
            arity="unary_stream",
            request=bigtable_v2.ReadRowsRequest,
            response=bigtable_v2.ReadRowsResponse,
            answer=row,
        )
    ],
    run=read_rows,
    says=[b"key"],
)

# Spanner


async def execute_sql(client: Any, **how: Any) -> object:
    result = await client.execute_sql({"session": "a/session", "sql": "SELECT 1"}, **how)
    return [list(row) for row in result.rows]


EXECUTE = Use(
    client=spanner_v1.SpannerAsyncClient,
    rpcs=[
        Rpc(
            path="/google.spanner.v1.Spanner/ExecuteSql",
            request=spanner_v1.ExecuteSqlRequest,
            response=spanner_v1.ResultSet,
            answer=lambda _: [spanner_v1.ResultSet(rows=[["1"]])],
        )
    ],
    run=execute_sql,
    says=[["1"]],
)


def partial_result(value: str) -> Any:
    response = spanner_v1.PartialResultSet()
    spanner_v1.PartialResultSet.pb(response).values.add(string_value=value)
    return response


async def execute_streaming_sql(client: Any, **how: Any) -> object:
    results = await client.execute_streaming_sql({"session": "a/session", "sql": "SELECT 1"}, **how)
    return [value async for result in results for value in result.values]


EXECUTE_STREAMING = Use(
    client=spanner_v1.SpannerAsyncClient,
    rpcs=[
        Rpc(
            path="/google.spanner.v1.Spanner/ExecuteStreamingSql",
            arity="unary_stream",
            request=spanner_v1.ExecuteSqlRequest,
            response=spanner_v1.PartialResultSet,
            answer=lambda _: [partial_result("1"), partial_result("2")],
        )
    ],
    run=execute_streaming_sql,
    says=["1", "2"],
)

# Speech


async def streaming_recognize(client: Any, **how: Any) -> object:
    requests = stream(
        speech_v1.StreamingRecognizeRequest(streaming_config={}),
        speech_v1.StreamingRecognizeRequest(audio_content=b"hello"),
    )
    return [
        alternative.transcript
        async for response in await client.streaming_recognize(requests=requests, **how)
        for result in response.results
        for alternative in result.alternatives
    ]


def hear(requests: Sequence[Any]) -> Sequence[Any]:
    heard = requests[0].audio_content.decode() or "listening"
    result = {"alternatives": [{"transcript": heard}]}
    return [speech_v1.StreamingRecognizeResponse(results=[result])]


RECOGNIZE_STREAM = Use(
    client=speech_v1.SpeechAsyncClient,
    rpcs=[
        Rpc(
            path="/google.cloud.speech.v1.Speech/StreamingRecognize",
            arity="stream_stream",
            request=speech_v1.StreamingRecognizeRequest,
            response=speech_v1.StreamingRecognizeResponse,
            answer=hear,
        )
    ],
    run=streaming_recognize,
    says=["listening", "hello"],
)


async def recognize_long(client: Any, **how: Any) -> object:
    operation = await client.long_running_recognize(
        config=speech_v1.RecognitionConfig(), audio=speech_v1.RecognitionAudio(content=b"hello"), **how
    )
    response = await operation.result(timeout=10)
    return [alternative.transcript for result in response.results for alternative in result.alternatives]


def done(_: Sequence[Any]) -> Sequence[Any]:
    response = speech_v1.LongRunningRecognizeResponse(results=[{"alternatives": [{"transcript": "hello"}]}])
    packed = any_pb2.Any()
    packed.Pack(speech_v1.LongRunningRecognizeResponse.pb(response))
    return [operations_pb2.Operation(name="an/operation", done=True, response=packed)]


RECOGNIZE_LONG = Use(
    client=speech_v1.SpeechAsyncClient,
    rpcs=[
        Rpc(
            path="/google.cloud.speech.v1.Speech/LongRunningRecognize",
            request=speech_v1.LongRunningRecognizeRequest,
            response=operations_pb2.Operation,
            answer=lambda _: [operations_pb2.Operation(name="an/operation")],
        ),
        Rpc(
            path="/google.longrunning.Operations/GetOperation",
            request=operations_pb2.GetOperationRequest,
            response=operations_pb2.Operation,
            answer=done,
        ),
    ],
    run=recognize_long,
    says=["hello"],
)

# Storage


async def get_bucket(client: Any, **how: Any) -> object:
    return (await client.get_bucket(name="projects/_/buckets/b", **how)).name


GET_BUCKET = Use(
    client=storage_v2.StorageAsyncClient,
    rpcs=[
        Rpc(
            path="/google.storage.v2.Storage/GetBucket",
            request=storage_v2.GetBucketRequest,
            response=storage_v2.Bucket,
            answer=lambda requests: [storage_v2.Bucket(name=requests[0].name)],
        )
    ],
    run=get_bucket,
    says="projects/_/buckets/b",
)


async def read_object(client: Any, **how: Any) -> object:
    request = storage_v2.ReadObjectRequest(bucket="projects/_/buckets/b", object="o")
    parts = [part.checksummed_data.content async for part in await client.read_object(request, **how)]
    return b"".join(parts)


READ_OBJECT = Use(
    client=storage_v2.StorageAsyncClient,
    rpcs=[
        Rpc(
            path="/google.storage.v2.Storage/ReadObject",
            arity="unary_stream",
            request=storage_v2.ReadObjectRequest,
            response=storage_v2.ReadObjectResponse,
            answer=lambda _: [
                storage_v2.ReadObjectResponse(checksummed_data={"content": part}) for part in (b"a", b"b")
            ],
        )
    ],
    run=read_object,
    says=b"ab",
)


async def write_object(client: Any, **how: Any) -> object:
    parts = [storage_v2.WriteObjectRequest(checksummed_data={"content": part}) for part in (b"a", b"b")]
    call = await client.write_object(requests=stream(*parts), **how)
    return (await call).persisted_size


WRITE_OBJECT = Use(
    client=storage_v2.StorageAsyncClient,
    rpcs=[
        Rpc(
            path="/google.storage.v2.Storage/WriteObject",
            arity="stream_unary",
            request=storage_v2.WriteObjectRequest,
            response=storage_v2.WriteObjectResponse,
            answer=lambda requests: [
                storage_v2.WriteObjectResponse(
                    persisted_size=sum(len(request.checksummed_data.content) for request in requests)
                )
            ],
        )
    ],
    run=write_object,
    says=2,
)

USES = (
    LOOKUP,
    ACCESS,
    LIST,
    PUBLISH,
    PULL,
    GET_DOCUMENT,
    RUN_QUERY,
    LISTEN,
    READ_ROWS,
    EXECUTE,
    EXECUTE_STREAMING,
    RECOGNIZE_STREAM,
    RECOGNIZE_LONG,
    GET_BUCKET,
    READ_OBJECT,
    WRITE_OBJECT,
)

# What clients call that make their channels themselves.
OTHERS = (
    Rpc(
        path="/google.bigtable.v2.Bigtable/PingAndWarm",
        request=bigtable_v2.PingAndWarmRequest,
        response=bigtable_v2.PingAndWarmResponse,
        answer=lambda _: [bigtable_v2.PingAndWarmResponse()],
    ),
    # Bigtable's client sends its metrics with a synchronous client of its own.
    Rpc(
        path="/google.monitoring.v3.MetricService/CreateServiceTimeSeries",
        request=monitoring_v3.CreateTimeSeriesRequest,
        response=empty_pb2.Empty,
        answer=lambda _: [empty_pb2.Empty()],
    ),
    Rpc(
        path="/google.storage.v2.Storage/GetObject",
        request=storage_v2.GetObjectRequest,
        response=storage_v2.Object,
        answer=lambda requests: [storage_v2.Object(name=requests[0].object_)],
    ),
    Rpc(
        path="/google.firestore.v1.Firestore/BatchGetDocuments",
        arity="unary_stream",
        request=firestore_v1.types.BatchGetDocumentsRequest,
        response=firestore_v1.types.BatchGetDocumentsResponse,
        answer=lambda requests: [
            firestore_v1.types.BatchGetDocumentsResponse(
                found={
                    "name": requests[0].documents[0],
                    "create_time": {"seconds": 1},
                    "update_time": {"seconds": 1},
                },
                read_time={"seconds": 1},
            )
        ],
    ),
)
RPCS = (*(rpc for use in USES for rpc in use.rpcs), *OTHERS)
