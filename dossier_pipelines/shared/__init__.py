"""What every desk stands on: environment, database, clock, failures. Imports no desk."""
