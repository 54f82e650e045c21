"""Build and send a news publisher's newsletters: pick, make up, proof, freeze, send, account."""

__version__ = "0.1.0"
