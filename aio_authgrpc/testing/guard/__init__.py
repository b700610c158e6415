"""How the guard of the test servers decides: as Envoy's filter `jwt_authn` does. For tests alone."""
