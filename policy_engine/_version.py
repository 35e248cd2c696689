"""The package's version, read by the build and by `policy_engine.__version__`."""

__version__ = "0.1.0"
