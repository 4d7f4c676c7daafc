"""Which Kotae this is."""

from importlib.metadata import PackageNotFoundError, version


def kotae_version() -> str:
    """Return the version that is installed; empty where the code runs from a checkout that is not."""
    try:
        return version("kotae")
    except PackageNotFoundError:
        return ""
