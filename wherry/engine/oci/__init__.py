"""The OCI runtime, its monitor, control groups, users, capabilities: the only place of the engine that knows them."""
