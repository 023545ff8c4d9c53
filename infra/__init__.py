"""The outside: Kafka, Postgres, settings, secrets, telemetry, and the programs that set all of it up."""
