"""The wire to the API server: credentials, informers, store, writer, leader lease."""
