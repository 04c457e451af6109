"""Helm for the tests, built from its Go module: nobody installs it, and all test one version."""
