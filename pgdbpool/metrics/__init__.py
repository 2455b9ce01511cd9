"""What is measured of pools, for Prometheus and for OpenTelemetry.

Each has a module and an extra of its own, and is imported only where it is used.
"""
