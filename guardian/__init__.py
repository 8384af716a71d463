"""The payment guardian: a reverse proxy that loses no x402 payment and doubles none."""

__version__ = "0.1.0"
__all__ = ["__version__", "create_app"]


def __getattr__(name: str) -> object:
    """`guardian.create_app`, imported when asked for: the command line should start fast."""
    if name == "create_app":
        from guardian.app import create_app

        return create_app
    raise AttributeError(name)
