"""The services and methods that gRPC's service config names, compared with those that there are.

gRPC applies nothing of what stands beside a name that no call has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from aio_authgrpc._client.service_config import refuse
from aio_authgrpc._client.service_config_fields import meant, quoted


class AskedMethods:
    """The methods that the stubs of a connection have asked their channel for."""

    def __init__(self) -> None:
        self._by_service: dict[str, set[str]] = {}
        self._complete: set[str] = set()
        self._all_asked = True  # many stubs ask for their methods when these are used

    def add(self, stub: object, paths: set[str]) -> None:
        """Add a stub that was made, and what it has asked for, `/package.Service/Method`."""
        at_once = bool(paths) and _is_generated(stub)
        self._all_asked = self._all_asked and at_once
        for path in paths:
            service, _, method = path.removeprefix("/").rpartition("/")
            self._by_service.setdefault(service, set()).add(method)
            if at_once:
                self._complete.add(service)

    def check(self, config: dict[str, Any]) -> None:
        """Refuse a name that no stub has. What cannot be known is let pass.

        Args:
            config: One that was checked.

        Raises:
            ConfigurationError: There is no such service, or method.
        """
        for field, service, method in _names(config):
            methods = _declared_methods(service)
            if methods is None and service in self._complete:
                methods = self._by_service[service]
            if methods is not None:
                _check_method(field, service, method, methods)
            elif service and service not in self._by_service and self._all_asked:
                hint = f"{meant(service, self._by_service)} Pass connect() its stub, too, if there is one."
                refuse(f"{field}.service", f"no stub has the service {quoted(service)}.", hint)


def check_methods(config: dict[str, Any], service: str) -> None:
    """Refuse a method in a service config that this service does not have, where its methods are known.

    Raises:
        ConfigurationError: There is no such method.
    """
    for field, named, method in _names(config):
        methods = _declared_methods(service) if named == service and method else None
        if methods is not None:
            _check_method(field, service, method, methods)


def _names(config: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for place, method_config in enumerate(config.get("methodConfig", ())):
        for number, name in enumerate(method_config["name"]):
            field = f"service_config.methodConfig[{place}].name[{number}]"
            yield field, name.get("service", ""), name.get("method", "")


def _check_method(field: str, service: str, method: str, methods: set[str]) -> None:
    if method and method not in methods:
        refuse(f"{field}.method", f"{service} has no method {quoted(method)}.", meant(method, methods))


def _is_generated(stub: object) -> bool:
    """Return whether a stub asks for all of its methods when it is made, as one without functions does."""
    return type(stub).__bases__ == (object,) and not any(
        callable(value) for name, value in vars(type(stub)).items() if not name.startswith("__")
    )


def _declared_methods(service: str) -> set[str] | None:
    """Return the methods of a service whose generated module was imported, as protobuf knows them."""
    pool: Any = sys.modules.get("google.protobuf.descriptor_pool")
    if pool is None:
        return None
    try:
        found = pool.Default().FindServiceByName(service)
    except KeyError:
        return None
    return {method.name for method in found.methods}
