"""What is told to monitoring: Prometheus metrics and OpenTelemetry spans."""
