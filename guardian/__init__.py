"""The payment guardian: a reverse proxy that loses no x402 payment and doubles none."""

__version__ = "0.1.0"
