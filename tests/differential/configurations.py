"""The identities that google-auth supports, each as a function that makes the credential."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.auth.api_key
import google.auth.aws
import google.auth.credentials
import google.auth.downscoped
import google.auth.external_account_authorized_user
import google.auth.identity_pool
import google.auth.impersonated_credentials
import google.auth.jwt
import google.auth.pluggable
import google.oauth2.credentials
import google.oauth2.gdch_credentials
import google.oauth2.service_account
from google.auth import compute_engine

from aio_authgrpc.testing import CredentialFiles, FakeClock, GoogleCloud

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
SERVICE = "https://service.example.com"
EMAIL = "tester@project.iam.gserviceaccount.com"
IMPERSONATED = "impersonated@project.iam.gserviceaccount.com"
UNIVERSE = "universe.example"

# The types of credential files, by their names in CredentialFiles.every_type().
FILES = (
    "service_account",
    "authorized_user",
    "impersonated_service_account",
    "external_account_file",
    "external_account_url",
    "external_account_url_json",
    "external_account_executable",
    "external_account_aws",
    "external_account_x509",
    "external_account_impersonating",
    "external_account_authorized_user",
    "gdch_service_account",
)


@dataclass(frozen=True, kw_only=True)
class World:
    """The endpoints, and credential files that name them."""

    cloud: GoogleCloud
    files: CredentialFiles
    infos: Mapping[str, Any]
    directory: Path
    environment: Mapping[str, str]
    clock: FakeClock


Make = Callable[[World, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One kind of identity.

    Attributes:
        name: Its name in the output.
        make: Makes a google-auth credential, and may block and send. It is given the world, and google-auth's
            request over requests.
        audience: The target's, for credentials that sign for it.
        silent: Whether it has its token without asking anybody.
    """

    name: str
    make: Make
    audience: str = SERVICE
    silent: bool = False

    def __str__(self) -> str:
        return self.name


CONFIGURATIONS: list[Configuration] = []


def configuration(make: Make) -> Make:
    """List a function among the configurations, under its own name."""
    CONFIGURATIONS.append(Configuration(name=make.__name__.replace("_", "-"), make=make))
    return make


def silent_configuration(make: Make) -> Make:
    """List a function whose credential sends no request."""
    CONFIGURATIONS.append(Configuration(name=make.__name__.replace("_", "-"), make=make, silent=True))
    return make


def service_account_of(world: World, **arguments: Any) -> Any:
    info = world.infos["service_account"] | arguments.pop("info", {})
    return google.oauth2.service_account.Credentials.from_service_account_info(info, **arguments)


@configuration
def service_account_grant(world: World, _: Any) -> Any:
    return service_account_of(world, scopes=SCOPES)


@configuration
def service_account_grant_at_its_own_token_uri(world: World, _: Any) -> Any:
    token_uri = {"token_uri": world.cloud.authority.token_uri}
    return service_account_of(world, scopes=SCOPES, info=token_uri, quota_project_id="payer")


@silent_configuration
def service_account_self_signed_with_scopes(world: World, _: Any) -> Any:
    return service_account_of(world, scopes=SCOPES, always_use_jwt_access=True)


@silent_configuration
def service_account_self_signed_with_audience(world: World, _: Any) -> Any:
    # google-auth's plugin signs for its configured host before each RPC.
    credentials = service_account_of(world)
    credentials._create_self_signed_jwt(f"{SERVICE}/")
    return credentials


@configuration
def service_account_with_subject(world: World, _: Any) -> Any:
    return service_account_of(world, scopes=SCOPES, subject="boss@example.com")


@silent_configuration
def service_account_of_another_universe(world: World, _: Any) -> Any:
    return service_account_of(world, scopes=SCOPES, info={"universe_domain": UNIVERSE})


@silent_configuration
def jwt_credentials(world: World, _: Any) -> Any:
    make = google.auth.jwt.Credentials.from_service_account_info
    return make(world.infos["service_account"], audience=SERVICE, additional_claims={"email": EMAIL})


@configuration
def service_account_id_token(world: World, _: Any) -> Any:
    make = google.oauth2.service_account.IDTokenCredentials.from_service_account_info
    return make(world.infos["service_account"], target_audience=SERVICE)


@configuration
def service_account_id_token_by_iam(world: World, _: Any) -> Any:
    # In other universes google-auth does this by itself.
    make = google.oauth2.service_account.IDTokenCredentials.from_service_account_info
    info = world.infos["service_account"] | {"universe_domain": UNIVERSE}
    return make(info, target_audience=SERVICE, universe_domain=UNIVERSE)


@configuration
def user_from_a_file(world: World, _: Any) -> Any:
    path = world.directory / "user.json"
    path.write_text(json.dumps(world.infos["authorized_user"]))
    return google.oauth2.credentials.Credentials.from_authorized_user_file(str(path))


@configuration
def user_from_info_with_quota_project(world: World, _: Any) -> Any:
    info = world.infos["authorized_user"] | {"quota_project_id": "payer"}
    return google.oauth2.credentials.Credentials.from_authorized_user_info(info, scopes=SCOPES)


@configuration
def compute_engine_access_token(world: World, _: Any) -> Any:
    return compute_engine.Credentials()


@configuration
def compute_engine_access_token_with_scopes(world: World, _: Any) -> Any:
    return compute_engine.Credentials(scopes=["scope-1", "scope-2"], quota_project_id="payer")


@configuration
def compute_engine_id_token(world: World, request: Any) -> Any:
    return compute_engine.IDTokenCredentials(
        request, target_audience=SERVICE, use_metadata_identity_endpoint=True
    )


@configuration
def compute_engine_id_token_by_iam_signer(world: World, request: Any) -> Any:
    return compute_engine.IDTokenCredentials(request, target_audience=SERVICE)


def impersonated_of(world: World, **arguments: Any) -> Any:
    make = google.auth.impersonated_credentials.Credentials
    arguments = {
        "source_credentials": service_account_of(world, scopes=SCOPES),
        "target_principal": IMPERSONATED,
        "target_scopes": SCOPES,
    } | arguments
    return make(**arguments)


@configuration
def impersonated(world: World, _: Any) -> Any:
    return impersonated_of(world)


@configuration
def impersonated_from_a_file(world: World, _: Any) -> Any:
    make = google.auth.impersonated_credentials.Credentials.from_impersonated_service_account_info
    return make(world.infos["impersonated_service_account"], scopes=SCOPES)


@configuration
def impersonated_with_delegates_and_lifetime(world: World, _: Any) -> Any:
    return impersonated_of(world, delegates=["between@project.iam.gserviceaccount.com"], lifetime=600)


@configuration
def impersonated_with_subject(world: World, _: Any) -> Any:
    return impersonated_of(world, subject="boss@example.com")


@configuration
def impersonated_in_another_universe(world: World, _: Any) -> Any:
    source = service_account_of(world, scopes=SCOPES, info={"universe_domain": UNIVERSE})
    return impersonated_of(world, source_credentials=source)


@configuration
def impersonated_id_token(world: World, _: Any) -> Any:
    make = google.auth.impersonated_credentials.IDTokenCredentials
    return make(impersonated_of(world), target_audience=SERVICE, include_email=True)


def identity_pool_of(world: World, name: str, **arguments: Any) -> Any:
    make = google.auth.identity_pool.Credentials.from_info
    return make(world.infos[f"external_account_{name}"], scopes=SCOPES, **arguments)


@configuration
def external_account_file(world: World, _: Any) -> Any:
    return identity_pool_of(world, "file")


@configuration
def external_account_url_text(world: World, _: Any) -> Any:
    return identity_pool_of(world, "url")


@configuration
def external_account_url_json(world: World, _: Any) -> Any:
    return identity_pool_of(world, "url_json")


@configuration
def external_account_executable(world: World, _: Any) -> Any:
    return google.auth.pluggable.Credentials.from_info(
        world.infos["external_account_executable"], scopes=SCOPES
    )


@configuration
def external_account_aws(world: World, _: Any) -> Any:
    return google.auth.aws.Credentials.from_info(world.infos["external_account_aws"], scopes=SCOPES)


@configuration
def external_account_x509(world: World, _: Any) -> Any:
    return identity_pool_of(world, "x509")


class Supplier(google.auth.identity_pool.SubjectTokenSupplier):  # type: ignore[misc]  # untyped upstream
    """A user's own supplier, which sends a request through the given transport."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get_subject_token(self, context: Any, request: Any) -> str:
        response = request(url=self._url, method="GET", headers={"Metadata": "True"})
        return str(response.data.decode())


@configuration
def external_account_programmatic_supplier(world: World, _: Any) -> Any:
    info = {
        name: value
        for name, value in world.infos["external_account_file"].items()
        if name not in ("type", "credential_source")
    }
    supplier = Supplier(f"{world.cloud.subject_tokens.url}/token")
    return google.auth.identity_pool.Credentials(**info, subject_token_supplier=supplier, scopes=SCOPES)


@configuration
def external_account_impersonating(world: World, _: Any) -> Any:
    return identity_pool_of(world, "impersonating")


@configuration
def external_account_authorized_user(world: World, _: Any) -> Any:
    make = google.auth.external_account_authorized_user.Credentials.from_info
    return make(world.infos["external_account_authorized_user"])


@configuration
def gdch(world: World, _: Any) -> Any:
    make = google.oauth2.gdch_credentials.ServiceAccountCredentials.from_service_account_info
    return make(world.infos["gdch_service_account"]).with_gdch_audience(SERVICE)


@configuration
def downscoped(world: World, _: Any) -> Any:
    rule = google.auth.downscoped.AccessBoundaryRule(
        available_resource="//storage.googleapis.com/projects/_/buckets/bucket",
        available_permissions=["inRole:roles/storage.objectViewer"],
    )
    boundary = google.auth.downscoped.CredentialAccessBoundary(rules=[rule])
    return google.auth.downscoped.Credentials(service_account_of(world, scopes=SCOPES), boundary)


@silent_configuration
def api_key(world: World, _: Any) -> Any:
    return google.auth.api_key.Credentials("the-api-key")


@silent_configuration
def anonymous(world: World, _: Any) -> Any:
    return google.auth.credentials.AnonymousCredentials()
