"""The contract: operations, models and errors of the Docker Engine API. Pure data; both ends speak it."""
