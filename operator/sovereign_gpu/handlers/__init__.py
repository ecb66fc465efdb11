"""kopf serves the three custom resources; the handlers only carry them into the registry."""
