"""Byzantine fault tolerant replication: chained HotStuff with BLS aggregate certificates."""

__version__ = "0.1.0"
