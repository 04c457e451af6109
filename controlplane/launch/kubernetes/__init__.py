"""Launches jobs as pods of a Kubernetes cluster."""
