"""Bridges to services that read this package's data by contracts of their own."""
