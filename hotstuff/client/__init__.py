"""The client library."""

from hotstuff.client.client import Client, Receipt, ReplicaAddress
from hotstuff.client.status import fetch_status

__all__ = ["Client", "Receipt", "ReplicaAddress", "fetch_status"]
