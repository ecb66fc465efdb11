"""What the outside sees of the operator: metrics, health, logs."""
