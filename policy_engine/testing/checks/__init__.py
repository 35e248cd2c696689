"""The checks that the conformance kit and the pytest plugin run."""
