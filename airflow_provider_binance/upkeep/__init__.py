"""Keeping what is there right: `verify` finds, `repair` fills, `forget` takes out; the front doors are in `ingest`."""
